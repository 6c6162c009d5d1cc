"""Latency models of later Jetsons: the Nano's kernel structure with factors for each board, fitted to its published whole networks.

    python -m benchmarks.nano_prior.boards --data DIR --out DIR

``--data`` holds jetson_whole_networks.csv; ``--out`` receives one JSON file for each board, in FP16. A board has five factors on the
Nano's parameters: arithmetic of dense kernels, of all others, memory bandwidth, launches, and the size at which kernels fill the GPU.
They start from data sheets. Every row is also predicted by a fit without its family; the printed table and the intervals come from those.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks.nano_prior.published import KNOWN, PublishedNetworks, PublishedRow, read_whole_networks
from hw_latency_model.bundled.load import load_bundled
from hw_latency_model.model.bounds import PhysicalBounds
from hw_latency_model.model.conformal import conformal_quantile
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.model.nano_columns import joined_columns
from hw_latency_model.model.nano_prior import DENSE_CLASSES, NAMES, NanoPrior, evaluate, nano_terms
from hw_latency_model.model.state import FitQuality
from hw_latency_model.types import KernelSpec
from search_spaces._common.errors import UserError

Array = NDArray[np.float64]

PRECISION, LEVEL = "fp16", 0.9
WHOLE_NETWORKS = "jetson_whole_networks.csv"
WRAPPED = "NVIDIA-AI-IOT/torch2trt"
"""Source whose latencies include the call through torch, for which each of its rows pays the same."""


@dataclass(frozen=True)
class Board:
    """One board by its data sheet, relative to the Nano in FP16 (236 GMAC/s, 25.6 GB/s, one multiprocessor).

    Attributes:
        name: of the device; title: in the table of published latencies, and of the GPU.
        arithmetic, bandwidth, multiprocessors: times the Nano's.
        gpu: for the fingerprint.
    """

    name: str
    title: str
    arithmetic: float
    bandwidth: float
    multiprocessors: float
    gpu: str


BOARDS = (
    Board("jetson-tx2", "Jetson TX2", 2.8, 2.3, 2, "256 Pascal cores, sm_62"),
    Board("jetson-xavier-nx", "Jetson NX", 13, 2.3, 6, "384 Volta cores, sm_72"),
    Board("jetson-xavier", "Jetson Xavier", 23, 5.3, 8, "512 Volta cores, sm_72"),
    Board("jetson-orin-nano", "Jetson Orin Nano", 21, 2.7, 8, "1024 Ampere cores, sm_87"),
    Board("jetson-agx-orin", "Jetson AGX Orin", 90, 8.0, 16, "2048 Ampere cores, sm_87"),
)
ODD = {("Jetson Xavier", "densenet")}
"""Families whose rows are no guide: torch2trt's DenseNets take half of the Nano's time on a Xavier, where all others take a tenth."""
FACTORS = ("dense", "other", "bandwidth", "launch", "filling", "call")
LOG_STD = np.array([0.5, 0.5, 0.2, 0.7, 0.7, 0.7])
ROW_LOG_STD = 0.1
CALL_MS = 0.3

_IS_DENSE = np.array([name.partition(".")[0] == "rate" and name[5:] in DENSE_CLASSES for name in NAMES])
_IS_OTHER = np.array([name.startswith("rate.") or name == "activation_rate" for name in NAMES]) & ~_IS_DENSE
_IS_LAUNCH = np.array([name in ("launch_ms", "activation_launch_ms") for name in NAMES])
_IS_BANDWIDTH = np.array([name == "bandwidth_gbs" for name in NAMES])
_IS_FILLING = np.array([name.endswith("half_pixels") for name in NAMES])


@dataclass(frozen=True)
class Rows:
    """Published rows of one board, with the kernels of their networks."""

    rows: tuple[PublishedRow, ...]
    networks: tuple[tuple[KernelSpec, ...], ...]

    def without(self, family: str) -> Rows:
        kept = [index for index, row in enumerate(self.rows) if row.family != family]
        return Rows(tuple(self.rows[index] for index in kept), tuple(self.networks[index] for index in kept))


def board_parameters(base: Mapping[str, float], factors: Array) -> Array:
    """Apply a board's factors, in the order of ``FACTORS``, to the Nano's parameters; in the order of ``NAMES``."""
    dense, other, bandwidth, launch, filling, _ = factors
    scale = np.where(_IS_DENSE, dense, 1.0) * np.where(_IS_OTHER, other, 1.0) * np.where(_IS_BANDWIDTH, bandwidth, 1.0)
    scale = scale * np.where(_IS_LAUNCH, launch, 1.0) * np.where(_IS_FILLING, filling, 1.0)
    return np.asarray(np.array([base[name] for name in NAMES]) * scale, dtype=np.float64)


def fit_board(board: Board, found: Rows, base: Mapping[str, float]) -> Array:
    """Fit the factors of a board to its rows; outliers count less (soft L1)."""
    start = np.log([board.arithmetic, board.bandwidth, board.bandwidth, 0.5, board.multiprocessors, CALL_MS])
    terms = nano_terms(joined_columns(found.networks), PRECISION)
    network = np.repeat(np.arange(len(found.rows)), [len(kernels) for kernels in found.networks])
    measured = np.log([row.latency_ms for row in found.rows])
    wrapped = np.array([row.source.startswith(WRAPPED) for row in found.rows], dtype=np.float64)

    def residuals(point: Array) -> Array:
        factors = np.exp(point)
        kernel_ms = evaluate(terms, board_parameters(base, factors))
        total = np.bincount(network, weights=kernel_ms, minlength=len(measured)) + wrapped * factors[-1]
        return np.concatenate([(np.log(total) - measured) / ROW_LOG_STD, (point - start) / LOG_STD])

    return np.asarray(np.exp(least_squares(residuals, start, loss="soft_l1", f_scale=2.0).x), dtype=np.float64)


def left_out_errors(board: Board, found: Rows, base: Mapping[str, float]) -> Array:
    """Log errors (rows,) of predicted over published, each by a fit without the row's family; the call through torch is added."""
    errors = np.zeros(len(found.rows))
    for family in sorted({row.family for row in found.rows}):
        factors = fit_board(board, found.without(family), base)
        prior = NanoPrior((), PRECISION, dict(zip(NAMES, board_parameters(base, factors).tolist(), strict=True)))
        for index, row in enumerate(found.rows):
            if row.family == family:
                call = factors[-1] if row.source.startswith(WRAPPED) else 0.0
                errors[index] = np.log((prior.kernel_ms(found.networks[index]).sum() + call) / row.latency_ms)
    return errors


def build_board(board: Board, found: Rows, base: Mapping[str, float], errors: Array) -> LatencyModel:
    """Build the bundled model of a board from all its rows, with an interval from families left out."""
    parameters = board_parameters(base, fit_board(board, found, base))
    far = np.abs(errors)
    log_std = float(np.sqrt(np.mean(far**2)))
    kinds = sorted({kernel.kind for kernels in found.networks for kernel in kernels} - {"view"})
    relative = np.abs(np.expm1(errors))
    sources = sorted({row.source for row in found.rows})
    quality = FitQuality(
        networks=len(errors),
        median_error_rel=float(np.median(relative)),
        within10=float(np.mean(relative <= 0.1)),
        coverage=LEVEL,
        noise_rel=0.05,
        reference_ms=0.0,
        speed_exponent=0.0,
        reference_drift_rel=0.0,
        families=len({row.family for row in found.rows}),
        family_error_rel=float(np.median(relative)),
        family_within10=float(np.mean(relative <= 0.1)),
    )
    return LatencyModel.from_prior(
        NanoPrior(tuple(kinds), PRECISION, dict(zip(NAMES, parameters.tolist(), strict=True))),
        device=board.name,
        precision=PRECISION,
        fingerprint={
            "board": f"NVIDIA {board.title}",
            "gpu": board.gpu,
            "runtime": "tensorrt",
            "origin": "public measurements by others",
            "precision": PRECISION,
        },
        log_std=log_std,
        quality=quality,
        provenance=(
            "Not calibrated on your device. The kernel structure of the Jetson Nano's model with five factors for this board, "
            f"from data sheets and {len(errors)} published whole networks at batch 1 ({', '.join(sources)}). Power mode and "
            "clocks are not stated. The interval is conformal on families left out. Calibrate your own board."
        ),
        networks=found.networks,
        margin=conformal_quantile(far / log_std, LEVEL),
        level=LEVEL,
        bounds=PhysicalBounds(board.arithmetic * 236e6 * 2.25, board.bandwidth * 51.2e6, 0.1),
    )


def read_boards(folder: Path) -> dict[str, Rows]:
    """Read the rows of each board in FP16 whose networks can be built, by its title.

    Raises:
        UserError: the file is missing or lacks a column.
    """
    builder = PublishedNetworks()
    result = {}
    for title, rows in read_whole_networks(folder / WHOLE_NETWORKS).items():
        usable = [row for row in rows if row.status == KNOWN and row.precision == PRECISION and row.latency_ms > 0]
        usable = [row for row in usable if (title, row.family) not in ODD]
        pairs = [(row, tuple(builder.kernels(row))) for row in usable]
        kept = [(row, kernels) for row, kernels in pairs if kernels]
        result[title] = Rows(tuple(row for row, _ in kept), tuple(kernels for _, kernels in kept))
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nano_prior.boards", description="Build the bundled models of later Jetsons."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the public measurements")
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundled models")
    options = parser.parse_args(arguments)
    base = load_bundled("jetson-nano", PRECISION).fit_result.prior.to_dict()["parameters"]
    try:
        found = read_boards(options.data)
        for board in BOARDS:
            errors = left_out_errors(board, found[board.title], base)
            build_board(board, found[board.title], base, errors).save(options.out / f"{board.name}-{PRECISION}.json")
            relative = np.abs(np.expm1(errors))
            sys.stdout.write(
                f"{board.name:18}{len(errors):4} rows  within 15 %: {np.mean(relative <= 0.15):4.0%}"
                f"  25 %: {np.mean(relative <= 0.25):4.0%}  median error: {np.median(relative):6.1%}"
                f"  half width: {np.expm1(conformal_quantile(np.abs(errors), LEVEL)):5.0%}\n"
            )
            for row, error in zip(found[board.title].rows, errors, strict=True):
                sys.stdout.write(f"    {row.key:24}{row.latency_ms:8.2f} ms, without its family: {np.exp(error):.2f}\n")
    except UserError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
