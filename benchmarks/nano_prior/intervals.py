"""Conformal intervals that widen with the predictive standard deviation, calibrated on held-out campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist

from benchmarks.nano_prior.boosting import NetworkTable
from hw_latency_model.model.covariance import explained_variance
from hw_latency_model.model.nano_prior import evaluate

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

LEVEL = 0.9
OCTAVES = 0.35
"""Length scale of the correlation between kernels of one class, in octaves of size and width."""
NETWORK_STD = 0.1
"""Standard deviation of a network's measurement, relative to the prior standard deviation of a kernel."""
CHUNK = 500


@dataclass(frozen=True)
class Evidence:
    """Posterior uncertainty about kernels, from the shapes of measured networks alone; independent of latencies.

    A Gaussian process over kernels, by class, output positions and channels, models the factor between each kernel and the prior.
    A network measures the mean of its kernels' factors, weighted by their shares of the time: a kernel is known to the extent that
    networks spent time on similar kernels, not because it occurred once beside a kernel that took nearly all the time.

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
        """Compute the posterior of measured networks; cubic in their number, use a thousand at most."""
        points, shares = _design(table, values)
        covariance = _between(shares, points, shares, points) + NETWORK_STD**2 * np.eye(table.count)
        return cls(values, points, shares, cholesky(covariance, lower=True))

    def predictive_std(self, asked: NetworkTable) -> Array:
        """Return the standard deviation (networks,) of each network's mean factor: 0 if all is known, at most 1."""
        points, shares = _design(asked, self.values)
        result = np.zeros(asked.count)
        for start in range(0, asked.count, CHUNK):
            rows = shares[start : start + CHUNK]
            used = np.unique(rows.indices)
            rows, near = rows[:, used], points[used]
            before = np.asarray((rows * (rows @ _covariance(near, near))).sum(axis=1)).ravel()
            known = explained_variance(self.root, _between(self.shares, self.points, rows, near))
            result[start : start + CHUNK] = np.sqrt(np.maximum(before - known, 0.0))
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
class ConformalInterval:
    """Half width of the interval of a log prediction: ``margin · (1 + slope · predictive_std)``."""

    slope: float
    margin: float

    @classmethod
    def fit(cls, errors: Sequence[Array], predictive_stds: Sequence[Array], level: float = LEVEL) -> ConformalInterval:
        """Calibrate on held-out groups of equal weight.

        The slope is the most likely of a few for Laplace-distributed errors. The margin covers ``level`` of the hardest group, because
        errors within a campaign are correlated and the next one may be as hard.

        Args:
            errors: per group, (n,) logs of predicted over measured.
            predictive_stds: per group, (n,) predictive standard deviations.
        """
        weights = np.concatenate([np.full(len(group), 1.0 / len(group)) for group in errors])
        error, std = np.abs(np.concatenate(errors)), np.concatenate(predictive_stds)

        def unlikely(slope: float) -> float:
            scale = 1.0 + slope * std
            return float(
                np.log(np.average(error / scale, weights=weights)) + np.average(np.log(scale), weights=weights)
            )

        slope = min(SLOPES.tolist(), key=unlikely)
        groups = zip(errors, predictive_stds, strict=True)
        margin = max(float(np.quantile(np.abs(error) / (1.0 + slope * std), level)) for error, std in groups)
        return cls(slope, margin)

    def half_width(self, predictive_std: Array) -> Array:
        """Return half widths (m,) in e-folds."""
        return np.asarray(self.margin * (1.0 + self.slope * predictive_std), dtype=np.float64)
