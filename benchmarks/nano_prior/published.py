"""Published latencies of whole networks on the Nano: the table, and each row's network as kernels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.nano_prior.convnets import read_table
from benchmarks.nano_prior.networks import build_network
from hw_latency_model.kernels.extract import kernels_from_module
from hw_latency_model.types import KernelSpec

COLUMNS = ("model", "input_hxw", "batch", "precision", "runtime", "ms", "fps", "source")
WHOLE_COLUMNS = ("device", "precision", "model", "input_hxw", "ms", "source")
FAMILIES = (
    *("efficientdet", "efficientformer", "mixnet", "mobilenet", "mobilevit", "mnasnet", "shufflenet", "squeezenet"),
    *("densenet", "fcnresnet", "resnet", "vgg", "alexnet", "yolo", "vit"),
)
"""Families by the letters that a network's key starts with; any other is named by all the letters that its key starts with."""

KNOWN = "ok"


@dataclass(frozen=True)
class PublishedRow:
    """One row of the table.

    Attributes:
        model, input_hxw, precision, source: as published; ``source`` with "same" resolved.
        input_hw: height and width; (0, 0) where the text is no size.
        latency_ms: as published, or 1000 / fps; 0 where neither is given.
        status: ``ok``, or why nothing can be predicted for it.
    """

    model: str
    input_hxw: str
    input_hw: tuple[int, int]
    precision: str
    source: str
    latency_ms: float
    status: str = KNOWN

    @property
    def key(self) -> str:
        """The model's name without spelling: rows of one key are one network, at whatever size and precision."""
        return re.sub(r"[^a-z0-9]|^tf_", "", self.model.lower().rpartition(":")[2])

    @property
    def family(self) -> str:
        """Family: ``resnet``, ``vgg``, ``fcnresnet``."""
        known = next((name for name in FAMILIES if self.key.startswith(name)), None)
        if known is not None:
            return known
        match = re.match(r"[a-z]+", self.key)
        return match.group() if match else self.key


def read_published(path: Path) -> list[PublishedRow]:
    """Rows of the table.

    Raises:
        UserError: the file is missing or lacks a column.
    """
    rows: list[PublishedRow] = []
    source = ""
    for row in read_table(path, COLUMNS):
        text = {key: (value or "").strip() for key, value in row.items() if key is not None}
        source = text["source"] if text["source"] != "same" else source
        size = re.fullmatch(r"(\d+)\s*[x×]\s*(\d+)", text["input_hxw"].lower())
        hw = (int(size[1]), int(size[2])) if size else (0, 0)
        latency = _number(text["ms"]) or (1000.0 / fps if (fps := _number(text["fps"])) else 0.0)
        precision = text["precision"].lower()
        status = KNOWN
        if not size:
            status = "unknown input size"
        elif text["batch"] not in ("1", ""):
            status = "batch is not 1"
        elif precision not in ("fp32", "fp16"):
            status = "no such precision on the Nano"
        rows.append(PublishedRow(text["model"], text["input_hxw"], hw, precision, source, latency, status))
    return rows


def read_whole_networks(path: Path) -> dict[str, list[PublishedRow]]:
    """Rows of the table of several Jetsons, by device, in its words.

    Raises:
        UserError: the file is missing or lacks a column.
    """
    found: dict[str, list[PublishedRow]] = {}
    for row in read_table(path, WHOLE_COLUMNS):
        height, _, width = row["input_hxw"].partition("x")
        source = row["source"].partition("@")[0].partition(" ")[0]
        item = PublishedRow(
            row["model"],
            row["input_hxw"],
            (int(height), int(width)),
            row["precision"],
            source,
            _number(row["ms"]),
            KNOWN if row["precision"] in ("fp32", "fp16") else "no such precision",
        )
        found.setdefault(row["device"], []).append(item)
    return found


def _number(text: str) -> float:
    try:
        return max(float(text), 0.0)
    except ValueError:
        return 0.0


class PublishedNetworks:
    """Kernels by name and input size; each network is built once."""

    def __init__(self) -> None:
        self._kernels: dict[tuple[str, tuple[int, int]], list[KernelSpec]] = {}

    def kernels(self, row: PublishedRow) -> list[KernelSpec]:
        """Return kernels with TensorRT's fusion; empty for an unknown network or one that does not accept this input."""
        place = (row.key, row.input_hw)
        if place not in self._kernels:
            net = build_network(row.model.rpartition(":")[2])
            try:
                self._kernels[place] = kernels_from_module(net, row.input_hw, runtime="tensorrt") if net else []
            except (
                ValueError,
                RuntimeError,
                AssertionError,
            ):  # the network itself refuses this size, or returns no tensors
                self._kernels[place] = []
        return self._kernels[place]
