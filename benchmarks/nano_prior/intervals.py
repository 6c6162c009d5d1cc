"""Conformal intervals that widen with what the measured networks leave open, calibrated on whole campaigns left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist

from benchmarks.nano_prior.boosting import NetworkTable
from hw_latency_model.model.nano_prior import evaluate

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

LEVEL = 0.9
OCTAVES = 0.35
"""Kernels of one class tell of each other as far as their sizes and widths are within about this much."""
NETWORK_STD = 0.1
"""What a network's time leaves open of its kernels' mean, where what kernels leave open beforehand is 1."""
CHUNK = 500


@dataclass(frozen=True)
class Evidence:
    """What measured networks tell of kernels, by shape alone; no latency enters.

    A Gaussian process over kernels, by class, output positions and channels, says by what factor each differs from the prior.
    A network measures the mean of its kernels' factors, each weighted with its share of the time: a kernel counts as known
    as far as networks spent their time on its like, and not because it stood once beside one that took nearly all of it.

    Attributes:
        values: the prior's parameters in the order of ``NAMES``, for the shares.
        points: (u, 4) class and shape of the kernels that occur.
        shares: (networks, u) of each network's time.
        root: (networks, networks) lower Cholesky factor of the networks' covariance.
    """

    values: Array
    points: Array
    shares: csr_array
    root: Array

    @classmethod
    def of(cls, table: NetworkTable, values: Array) -> Evidence:
        """Of measured networks; takes the cube of their number, so that a thousand is enough."""
        points, shares = _design(table, values)
        covariance = _between(shares, points, shares, points) + NETWORK_STD**2 * np.eye(table.count)
        return cls(values, points, shares, cholesky(covariance, lower=True))

    def doubt(self, asked: NetworkTable) -> Array:
        """(networks,) standard deviation of each one's mean factor: 0 where all is known, at most 1 where nothing is."""
        points, shares = _design(asked, self.values)
        result = np.zeros(asked.count)
        for start in range(0, asked.count, CHUNK):
            rows = shares[start : start + CHUNK]
            used = np.unique(rows.indices)
            rows, near = rows[:, used], points[used]
            before = np.asarray((rows * (rows @ _covariance(near, near))).sum(axis=1)).ravel()
            known = solve_triangular(self.root, _between(self.shares, self.points, rows, near), lower=True)
            result[start : start + CHUNK] = np.sqrt(np.maximum(before - (known**2).sum(axis=0), 0.0))
        return result


def _design(table: NetworkTable, values: Array) -> tuple[Array, csr_array]:
    """((u, 4) different kernels, (networks, u) shares of time)."""
    prior_ms = evaluate(table.terms, values)
    share = prior_ms / np.maximum(table.total(prior_ms), 1e-12)[table.network]
    columns = table.columns
    sizes = [np.log2(item) for item in (columns.pixels, columns.inner, columns.outer)]
    points, place = np.unique(np.column_stack([table.terms.klass, *sizes]), axis=0, return_inverse=True)
    return points, csr_array((share, (table.network, place.reshape(-1))), shape=(table.count, len(points)))


def _covariance(left: Array, right: Array) -> Array:
    """(n, m) of kernels: 0 between classes."""
    result = np.zeros((len(left), len(right)))
    for klass in np.intersect1d(left[:, 0], right[:, 0]):
        rows, columns = np.flatnonzero(left[:, 0] == klass), np.flatnonzero(right[:, 0] == klass)
        squares = cdist(left[rows, 1:], right[columns, 1:], "sqeuclidean")
        result[np.ix_(rows, columns)] = np.exp(-0.5 * squares / OCTAVES**2)
    return result


def _between(left: csr_array, left_points: Array, right: csr_array, right_points: Array) -> Array:
    """(n, m) covariance of networks' mean factors."""
    return np.asarray(left @ (right @ _covariance(left_points, right_points).T).T, dtype=np.float64)


SLOPES = np.concatenate([[0.0], np.geomspace(0.5, 100.0, 40)])


@dataclass(frozen=True)
class DoubtInterval:
    """Half width of the interval of a log prediction: ``margin · (1 + slope · doubt)``."""

    slope: float
    margin: float

    @classmethod
    def fit(cls, errors: Sequence[Array], doubts: Sequence[Array], level: float = LEVEL) -> DoubtInterval:
        """Calibrate on groups that were left out, each counting the same however many networks it has.

        How errors grow with doubt is the most likely of a few slopes, for Laplace-distributed errors. The margin holds
        ``level`` of the group that is hardest even so: networks of one campaign err together, and the next may be like that one.

        Args:
            errors: per group, (n,) logs of predicted over measured.
            doubts: per group, (n,) what the measurements behind that prediction left open.
        """
        weights = np.concatenate([np.full(len(group), 1.0 / len(group)) for group in errors])
        error, doubt = np.abs(np.concatenate(errors)), np.concatenate(doubts)

        def unlikely(slope: float) -> float:
            scale = 1.0 + slope * doubt
            return float(
                np.log(np.average(error / scale, weights=weights)) + np.average(np.log(scale), weights=weights)
            )

        slope = min(SLOPES.tolist(), key=unlikely)
        groups = zip(errors, doubts, strict=True)
        margin = max(float(np.quantile(np.abs(error) / (1.0 + slope * doubt), level)) for error, doubt in groups)
        return cls(slope, margin)

    def half_width(self, doubt: Array) -> Array:
        """(m,) in e-folds."""
        return np.asarray(self.margin * (1.0 + self.slope * doubt), dtype=np.float64)
