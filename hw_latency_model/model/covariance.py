"""Shared parts of the Gaussian processes: distances, likelihood and the variance that data explain.

The processes differ otherwise. `gaussian_process` corrects a network's latency by features, is extended by further data and stored as
plain numbers; `few_shot.kernels` has a sum of kernels with parameters from other devices; the one in the fit of the Nano's prior
observes networks, i.e. weighted sums of kernels, and has no targets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mean_squared_distances(left: Array, right: Array, squares_of_right: Array | None = None) -> Array:
    """Compute squared distances (m, n) of rows (m, d) and (n, d), divided by d.

    Args:
        squares_of_right: (n,) squared lengths of ``right``, if they are known.
    """
    of_right = (right**2).sum(axis=1) if squares_of_right is None else squares_of_right
    squares = (left**2).sum(axis=1)[:, None] + of_right - 2.0 * left @ right.T
    return np.asarray(np.maximum(squares, 0.0) / max(left.shape[1], 1), dtype=np.float64)


def log_likelihood(covariance: Array, targets: Array) -> float:
    """Compute the log marginal likelihood of targets (n,) of mean 0, up to a constant; -inf for a singular covariance (n, n)."""
    from scipy.linalg import solve_triangular

    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return -np.inf
    half = solve_triangular(factor, targets, lower=True)
    return float(-0.5 * half @ half - np.log(np.diag(factor)).sum())


def explained_variance(factor: Array, cross: Array) -> Array:
    """Compute the variance (m,) that data explain at new points.

    Args:
        factor: (n, n) lower Cholesky factor of the covariance of the data.
        cross: (n, m) covariance of the data with the new points.
    """
    from scipy.linalg import solve_triangular

    return np.asarray((solve_triangular(factor, cross, lower=True) ** 2).sum(axis=0), dtype=np.float64)
