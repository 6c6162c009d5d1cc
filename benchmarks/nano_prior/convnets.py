"""Public convolutional networks timed on a Jetson Nano (iCAS-Lab/NAS-Performance-Modeling), decoded into kernels.

A network is L layers of convolutions at stride 1 with ReLU, then flatten and a Linear layer to ten classes; the columns of
its row give widths, kernel sizes and the input's side. Paddings: 1 for kernels of 1 and 3, else 2 (plain); 1 for kernels of 3,
else 2, before a pointwise convolution (depthwise-separable); in mixed networks the two kernel sizes alternate and the
padding is 2 until the first odd kernel, from which on it is 1. A row whose side and MACs do not follow from that is refused.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hw_latency_model.types import KernelSpec
from search_spaces._common.errors import UserError

COLUMNS = ("campaign", "name", "dws", "L", "F", "K1", "n1", "K2", "n2", "W", "final_hw", "macs", "lat_ms", "lat60_ms")
MAX_RERUN_DISAGREEMENT = 0.1
"""Two measurements of one network that differ by more than this are noise, not data."""

CLASSES = 10


@dataclass(frozen=True)
class ConvNet:
    """One measured network.

    Attributes:
        campaign: the measurement series it belongs to.
        name: of the network.
        latency_ms: geometric mean of its two measurements; wall clock, copies to and from the device included.
        disagreement_rel: how far the two are apart.
        kernels: as TensorRT fuses them, FP32.
    """

    campaign: str
    name: str
    latency_ms: float
    disagreement_rel: float
    kernels: tuple[KernelSpec, ...]


@dataclass(frozen=True)
class ConvNets:
    """Networks of a file, and numbers of rows excluded because their reruns disagree or they cannot be decoded."""

    networks: tuple[ConvNet, ...]
    disagreeing: int
    undecodable: int


def read_convnets(path: Path, *, max_disagreement_rel: float = MAX_RERUN_DISAGREEMENT) -> ConvNets:
    """Networks of a CSV file, gzipped or not.

    Raises:
        UserError: the file is missing or lacks a column.
    """
    networks: list[ConvNet] = []
    disagreeing = undecodable = 0
    for row in read_table(path, COLUMNS):
        try:
            network = _network(row)
        except ValueError:
            undecodable += 1
            continue
        if network.disagreement_rel > max_disagreement_rel:
            disagreeing += 1
        else:
            networks.append(network)
    return ConvNets(tuple(networks), disagreeing, undecodable)


def read_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a CSV file, gzipped or not, as text by column.

    Raises:
        UserError: the file is missing, not a table, or lacks a column.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a CSV table ({error}); give the path of a .csv or .csv.gz file."
        ) from error
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(
            f"the table {path} must have the column {missing[0]!r}, it has {', '.join(reader.fieldnames or ())}; "
            "give a file of that form."
        )
    return list(reader)


def _network(row: Mapping[str, str]) -> ConvNet:
    first, second = float(row["lat_ms"]), float(row["lat60_ms"] or row["lat_ms"])
    if not (first > 0.0 and second > 0.0):
        raise ValueError("a latency must be positive")
    kernels = convnet_kernels(
        depthwise=row["dws"] == "1",
        layers=int(row["L"]),
        features=int(row["F"]),
        sides=mixed_sides(int(row["K1"]), int(row["n1"]), int(row["K2"]), int(row["n2"])),
        input_side=int(row["W"]),
        mixed=int(row["n2"]) > 0,
    )
    final = kernels[-2].out_hw[0]
    macs = sum(kernel.macs + kernel.output_bytes // 4 for kernel in kernels)  # the source counts the bias too
    if final != int(row["final_hw"]) or abs(macs - int(row["macs"])) > 0.001 * macs:
        raise ValueError(f"decoded to side {final} and {macs} MACs, not to {row['final_hw']} and {row['macs']}")
    return ConvNet(
        row["campaign"], row["name"], (first * second) ** 0.5, max(first / second, second / first) - 1, kernels
    )


def mixed_sides(side1: int, count1: int, side2: int, count2: int) -> list[int]:
    """Kernel sides of the layers: the two alternate, starting with the first, until one is used up."""
    sides = []
    while count1 or count2:
        if count1:
            sides.append(side1)
            count1 -= 1
        if count2:
            sides.append(side2)
            count2 -= 1
    return sides


def convnet_kernels(
    *, depthwise: bool, layers: int, features: int, sides: list[int], input_side: int, mixed: bool
) -> tuple[KernelSpec, ...]:
    """Kernels of one network.

    Raises:
        ValueError: there is not one kernel side per layer, or a map vanishes.
    """
    if len(sides) != layers:
        raise ValueError(f"{layers} layers need as many kernel sides, not {len(sides)}")
    kernels: list[KernelSpec] = []
    channels, size, odd_seen = 3, input_side, False
    for index, side in enumerate(sides):
        odd_seen = odd_seen or side % 2 == 1
        if mixed:
            padding = 1 if odd_seen else 2
        elif depthwise:
            padding = 1 if side == 3 else 2
        else:
            padding = 1 if side in (1, 3) else 2
        after = size + 2 * padding - side + 1
        if after < 1:
            raise ValueError("a map vanishes")
        if depthwise:
            kernels.append(_conv(f"dw{index}", channels, channels, side, size, after, channels))
            kernels.append(_conv(f"pw{index}", channels, features, 1, after, after, 1))
        else:
            kernels.append(_conv(f"conv{index}", channels, features, side, size, after, 1))
        channels, size = features, after
    flat = channels * size * size
    kernels.append(
        KernelSpec(
            "gemm",
            "linear",
            macs=flat * CLASSES,
            input_bytes=4 * flat,
            weight_bytes=4 * (flat + 1) * CLASSES,
            output_bytes=4 * CLASSES,
            in_channels=flat,
            out_channels=CLASSES,
        )
    )
    return tuple(kernels)


def _conv(name: str, inner: int, outer: int, side: int, size: int, after: int, groups: int) -> KernelSpec:
    taps = side * side
    weights = outer * (inner // groups) * taps
    if groups > 1:
        kind = "depthwise"
    elif inner < 16:
        kind = "narrow_pointwise" if side == 1 else "narrow_conv"
    else:
        kind = "pointwise" if side == 1 else "conv"
    return KernelSpec(
        kind,
        name,
        macs=weights * after * after,
        input_bytes=4 * inner * size * size,
        weight_bytes=4 * (weights + outer),
        output_bytes=4 * outer * after * after,
        in_channels=inner,
        out_channels=outer,
        kernel=(side, side),
        stride=(1, 1),
        groups=groups,
        in_hw=(size, size),
        out_hw=(after, after),
        fused=() if groups > 1 else ("relu",),
    )
