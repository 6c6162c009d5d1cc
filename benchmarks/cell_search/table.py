"""NAS-Bench-201's cells as a table: accuracy, latency, arithmetic, and the hypervolume of what was evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.cell_networks import CONV1, CONV3, EDGES, NONE, OPS, CellNetwork
from hw_latency_model.few_shot.latency_table import ARCHITECTURE, LatencyTable
from objectives.pareto import hypervolume_2d
from search_spaces._common.errors import UserError

Array = NDArray[np.float64]

PARAMS = tuple(f"edge_{a}_{b}" for a, b in EDGES)
"""Names of the six parameters: the operation on each edge."""
DISCONNECTED_ACCURACY = 1.0
"""Per cent; that of a cell whose latency is missing, because nothing of the input reaches its output."""
USUAL_ACCURACY = "cifar100_test_acc"

_STAGES = ((16, 32), (32, 16), (64, 8))
"""Channels and side in pixels of the three stages, of five cells each."""
_CELLS_PER_STAGE = 5
_REST_MACS, _REST_PARAMS = 7_783_168.0, 73_306.0
"""Stem, the two residual blocks between the stages, and the classifier."""


@dataclass(frozen=True)
class CellTable:
    """Cells with what is known of each on one device.

    Attributes:
        index: row by the operations on the six edges.
        accuracy: (n,) per cent.
        latency_ms: (n,); the slowest one's where it is missing.
        macs: (n,) multiply-accumulates of one image.
        layers: (n,) convolutions on the longest path through the cell, and one.
        predicted_ms: (n,) latency as known before an evaluation, and told after it.
        latency_error: standard deviation of the logarithm of its ratio to ``latency_ms``.
    """

    index: Mapping[tuple[str, ...], int]
    accuracy: Array
    latency_ms: Array
    macs: Array
    layers: Array
    predicted_ms: Array
    latency_error: float = 0.0

    def with_latency_error(self, error: float, seed: int) -> CellTable:
        """Return the table with predicted latencies that are wrong by a log-normal factor, independently for each cell."""
        rng = np.random.default_rng([seed, 1])
        factors = np.exp(error * rng.normal(size=len(self.latency_ms)))
        return replace(self, predicted_ms=self.latency_ms * factors, latency_error=error)

    @property
    def reference(self) -> tuple[float, float]:
        """Reference point of the hypervolume, both columns minimised: accuracy 0 and the slowest latency."""
        return 0.0, float(self.latency_ms.max())

    def row(self, params: Mapping[str, str]) -> int:
        """Return the row of a cell given by its Optuna params."""
        return self.index[tuple(params[name] for name in PARAMS)]

    def costs(self, candidates: Sequence[Mapping[str, str]]) -> Array:
        """(n, 4): predicted latency in ms, MACs, layers of the cell, standard deviation of the latency."""
        rows = [self.row(params) for params in candidates]
        latency_ms = self.predicted_ms[rows]
        return np.stack([latency_ms, self.macs[rows], self.layers[rows], self.latency_error * latency_ms], axis=1)

    def hypervolume(self, rows: Sequence[int] | None = None) -> float:
        """Return the hypervolume of these cells, of all of them by default, in per cent times ms."""
        chosen = np.arange(len(self.accuracy)) if rows is None else np.asarray(rows, dtype=np.intp)
        return hypervolume_2d(np.stack([-self.accuracy[chosen], self.latency_ms[chosen]], axis=1), self.reference)


def accuracy_column(data: Path, wanted: str | None) -> str:
    """Return the column of accuracies: the one asked for, else CIFAR-100's, else the only one whose name holds ``acc``.

    Raises:
        UserError: there is none, or there are several.
    """
    columns = LatencyTable.read(data).columns
    named = [name for name in columns if "acc" in name.lower() and name != ARCHITECTURE]
    if wanted is not None or USUAL_ACCURACY in named:
        return wanted or USUAL_ACCURACY
    if len(named) != 1:
        raise UserError(
            f"{data} has {len(named)} columns of accuracies ({', '.join(named) or 'none'}); name one with --accuracy."
        )
    return named[0]


def read_tables(data: Path, targets: Sequence[str], accuracy: str) -> dict[str, CellTable]:
    """Return a table per latency column.

    Raises:
        UserError: the file cannot be read, lacks a column or an accuracy, or does not hold each cell once.
    """
    table = LatencyTable.read(data)
    columns = {name: table.numbers(name) for name in (accuracy, *targets)}
    cells = [CellNetwork.parse(text) for text in table.networks]
    index = {cell.ops: row for row, cell in enumerate(cells)}
    if len(index) != len(cells) or len(cells) != len(OPS) ** len(EDGES):
        raise UserError(f"{data} must hold each of the {len(OPS) ** len(EDGES)} cells once; it has {len(cells)} rows.")
    macs, _ = arithmetic(cells)
    layers = np.array([1.0 + _longest_path(cell) for cell in cells])
    tables = {}
    for target in targets:
        latency_ms, known = columns[target], columns[accuracy]
        if not np.isfinite(latency_ms).any():
            raise UserError(f"column {target} of {data} is empty; name another one in --targets.")
        missing = ~np.isfinite(latency_ms)
        score = np.where(missing, DISCONNECTED_ACCURACY, known)
        if not np.isfinite(score).all():
            raise UserError(f"column {accuracy} of {data} has empty fields; give the accuracy of every cell.")
        known_ms = np.where(missing, np.nanmax(latency_ms), latency_ms)
        tables[target] = CellTable(index, score, known_ms, macs, layers, known_ms)
    return tables


def arithmetic(cells: Sequence[CellNetwork]) -> tuple[Array, Array]:
    """MACs of one 32×32 image and parameters (n,) of the networks, edges that reach no output left out."""
    counts = np.array([[cell.pruned.ops.count(op) for op in (CONV1, CONV3)] for cell in cells], dtype=np.float64)
    taps = counts @ np.array([1.0, 9.0])
    macs = sum(channels**2 * side**2 for channels, side in _STAGES) * _CELLS_PER_STAGE
    weights = sum(channels**2 for channels, _ in _STAGES) * _CELLS_PER_STAGE
    return _REST_MACS + macs * taps, _REST_PARAMS + weights * taps


def _longest_path(cell: CellNetwork) -> int:
    longest = {0: 0}
    for (a, b), op in sorted(zip(EDGES, cell.pruned.ops, strict=True), key=lambda edge: edge[0][1]):
        if op != NONE and a in longest:
            longest[b] = max(longest.get(b, 0), longest[a] + (op in (CONV1, CONV3)))
    return longest.get(3, 0)
