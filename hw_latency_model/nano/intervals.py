"""Conformal intervals that widen with the distance from what was measured, calibrated on whole campaigns left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from hw_latency_model.nano.boosting import NetworkTable
from hw_latency_model.nano.prior import evaluate

Array = NDArray[np.float64]

LEVEL = 0.9


def network_summary(table: NetworkTable, values: Array) -> Array:
    """(networks, 8): what a network spends its time on: mean size, width, kernel side and kind, then its length and time."""
    prior_ms = evaluate(table.terms, values)
    total = np.maximum(table.total(prior_ms), 1e-9)
    columns = table.columns

    def mean(feature: Array) -> Array:
        return table.total(prior_ms * feature) / total

    shape = [np.log2(columns.pixels), np.log2(columns.inner), np.log2(columns.outer), columns.side]
    kinds = [columns.is_kind("depthwise").astype(np.float64), columns.is_kind("gemm").astype(np.float64)]
    return np.stack(
        [*(mean(item) for item in (*shape, *kinds)), np.log(table.total(np.ones(len(prior_ms)))), np.log(total)], 1
    )


def distance_to(known: Array, asked: Array) -> Array:
    """(m,) root mean square distance of each asked row from the nearest known one, in standard deviations of the known."""
    spread = np.maximum(known.std(axis=0), 1e-6)
    tree = cKDTree(known / spread)
    return np.asarray(tree.query(asked / spread)[0] / np.sqrt(known.shape[1]), dtype=np.float64)


@dataclass(frozen=True)
class DistanceInterval:
    """Half width of the interval of a log prediction: ``margin · (base + slope · distance)``."""

    base: float
    slope: float
    margin: float

    @classmethod
    def fit(cls, errors: Sequence[Array], distances: Sequence[Array], level: float = LEVEL) -> DistanceInterval:
        """Calibrate on groups that were left out, each counting the same however many networks it has.

        Args:
            errors: per group, (n,) logs of predicted over measured.
            distances: per group, (n,) distance from what that prediction was fitted on.
        """
        weights = np.concatenate([np.full(len(group), 1.0 / len(group)) for group in errors])
        error, distance = np.abs(np.concatenate(errors)), np.concatenate(distances)
        root = np.sqrt(weights)
        (base, slope), _ = nnls(np.stack([root, root * distance], axis=1), root * error)
        base = max(float(base), 0.25 * float(np.average(error, weights=weights)), 1e-4)
        scores = error / (base + slope * distance)
        order = np.argsort(scores)
        reached = np.cumsum(weights[order]) / weights.sum()
        margin = scores[order][min(int(np.searchsorted(reached, level)), len(order) - 1)]
        return cls(base, float(slope), float(margin))

    def half_width(self, distance: Array) -> Array:
        """(m,) in e-folds."""
        return np.asarray(self.margin * (self.base + self.slope * distance), dtype=np.float64)
