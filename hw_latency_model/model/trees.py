"""Gradient boosting with oblivious trees: small, stored as plain numbers, and fast for thousands of rows at once.

An oblivious tree has the same split at all nodes of one level, so a row's leaf is a number of ``depth`` bits and all trees
are evaluated together. They overfit less than unconstrained trees on a few thousand rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

BINS = 32
DEPTH = 5
TREES = 100
RATE = 0.1
PULL = 2.0
"""L2 regularisation of the leaves, in weights of a row."""
COLUMNS = 0.5
"""Share of the columns that each tree may split on."""

_NEVER = 1e300
_ROWS = 512
"""Rows per batch, for which all trees' leaf values fit into the cache."""


@dataclass(frozen=True)
class BoostedTrees:
    """Sum of oblivious trees.

    Attributes:
        columns: (trees, depth) split column of each level; a depth of at most 8.
        thresholds: (trees, depth) the bit of a level is set if the column is above it.
        values: (trees, 2 ** depth) leaf values.
    """

    columns: Codes
    thresholds: Array
    values: Array

    @classmethod
    def fit(
        cls,
        rows: Array,
        targets: Array,
        weights: Array,
        *,
        trees: int = TREES,
        seed: int = 0,
        bins: int = BINS,
        depth: int = DEPTH,
        rate: float = RATE,
    ) -> BoostedTrees:
        """Fit ``targets`` (n,) by least squares, weighted by ``weights`` (n,), from ``rows`` (n, d).

        Args:
            rows, targets, weights: of the training set.
            trees: number of trees.
            seed: of the columns that each tree may split on.
            bins: number of intervals of a column between which a tree may split.
            depth: levels of a tree, at most 8.
            rate: share of a tree's fit that is kept.
        """
        edges = [_edges(column, bins) for column in rows.T]
        codes = np.stack(
            [np.searchsorted(edge, column, side="left") for edge, column in zip(edges, rows.T, strict=True)], axis=1
        )
        weights = weights / weights.mean()
        rng = np.random.default_rng(seed)
        left = targets.astype(np.float64)
        grown: list[tuple[Codes, Array, Array]] = []
        for _ in range(trees):
            allowed = np.sort(rng.choice(rows.shape[1], max(1, round(COLUMNS * rows.shape[1])), replace=False))
            columns, cuts, leaf = _grow(codes, allowed, left, weights, bins, depth)
            sums = np.bincount(leaf, weights=weights * left, minlength=2**depth)
            values = rate * sums / (np.bincount(leaf, weights=weights, minlength=2**depth) + PULL)
            left = left - values[leaf]
            # A cut above a column's last edge does not split: all rows are below it.
            thresholds = np.array(
                [
                    edges[column][cut] if cut < len(edges[column]) else _NEVER
                    for column, cut in zip(columns, cuts, strict=True)
                ]
            )
            grown.append((columns, thresholds, values))
        return cls(*(np.stack(part) for part in zip(*grown, strict=True)))

    def predict(self, rows: Array) -> Array:
        """Predict (n,) for rows (n, d)."""
        columns, thresholds, levels, first_leaf = self._splits
        values = self.values.ravel()
        shifts = np.arange(len(levels), dtype=np.uint8)[::-1, None, None]
        result = np.zeros(len(rows))
        for start in range(0, len(rows), _ROWS):
            part = np.ascontiguousarray(rows[start : start + _ROWS].T)
            answers = (part.take(columns, axis=0) > thresholds).view(np.uint8)
            bits = answers.take(levels, axis=0)
            bits <<= shifts
            result[start : start + _ROWS] = values.take(np.bitwise_or.reduce(bits, axis=0) + first_leaf).sum(axis=0)
        return result

    @cached_property
    def _splits(self) -> tuple[Codes, Array, Codes, Codes]:
        """Columns (q,) and thresholds (q, 1) of the distinct splits; index of the split at each level of each tree (depth, trees);
        and offset of each tree's leaves in the flattened leaf values (trees, 1)."""
        splits, place = np.unique(
            np.column_stack([self.columns.ravel(), self.thresholds.ravel()]), axis=0, return_inverse=True
        )
        levels = np.ascontiguousarray(place.reshape(self.columns.shape).T)
        first_leaf = np.arange(0, self.values.size, self.values.shape[1])[:, None]
        return splits[:, 0].astype(np.intp), splits[:, 1:].astype(np.float64), levels, first_leaf

    def to_dict(self) -> dict[str, Any]:
        return {
            "columns": self.columns.tolist(),
            "thresholds": self.thresholds.tolist(),
            "values": self.values.tolist(),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> BoostedTrees:
        return cls(
            np.array(value["columns"], dtype=np.intp),
            np.array(value["thresholds"], dtype=np.float64),
            np.array(value["values"], dtype=np.float64),
        )


def _edges(column: Array, bins: int) -> Array:
    """Compute up to ``bins - 1`` cuts between distinct values, at the column's quantiles."""
    values = np.unique(column)
    if len(values) > bins:
        return np.unique(np.quantile(column, np.linspace(0.0, 1.0, bins + 1)[1:-1], method="nearest"))
    return np.asarray((values[1:] + values[:-1]) / 2, dtype=np.float64)


def _grow(
    codes: Codes, allowed: Codes, targets: Array, weights: Array, bins: int, depth: int
) -> tuple[Codes, Array, Codes]:
    """Grow one tree: its columns and cuts, and the leaf of each row."""
    width = bins + 1
    part = codes[:, allowed]
    offsets = np.arange(len(allowed)) * width
    leaf = np.zeros(len(codes), dtype=np.intp)
    columns, cuts = [], []
    pulled, counted = np.repeat(weights * targets, len(allowed)), np.repeat(weights, len(allowed))
    for level in range(depth):
        cells = 2**level * len(allowed) * width
        place = (leaf[:, None] * (len(allowed) * width) + offsets + part).ravel()
        shape = (2**level, len(allowed), width)
        sums = np.bincount(place, weights=pulled, minlength=cells).reshape(shape)
        counts = np.bincount(place, weights=counted, minlength=cells).reshape(shape)
        below, below_count = np.cumsum(sums, axis=2)[:, :, :-1], np.cumsum(counts, axis=2)[:, :, :-1]
        above, above_count = sums.sum(axis=2)[:, :, None] - below, counts.sum(axis=2)[:, :, None] - below_count
        gain = (below**2 / (below_count + PULL) + above**2 / (above_count + PULL)).sum(axis=0)
        column, cut = np.unravel_index(int(np.argmax(gain)), gain.shape)
        columns.append(int(allowed[column]))
        cuts.append(int(cut))
        leaf = 2 * leaf + (part[:, column] > cut)
    return np.array(columns, dtype=np.intp), np.array(cuts), leaf
