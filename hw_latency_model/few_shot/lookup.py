"""Additive prior of a few-shot model: a network's time as a non-negative sum of terms, fitted to few networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]

FLOOR = 0.2
"""Lower bound of the look-up as a share of the fastest measured network."""
_FOLDS = 10


def fit_terms(terms: Array, latency_ms: Array, strength: Array) -> Array:
    """Fit costs (k,) ≥ 0 that minimise Σ (terms · cost / latency - 1)² + n Σ (strength · share)².

    Args:
        terms: (n, k), ≥ 0.
        latency_ms: (n,), > 0.
        strength: (k,) penalty on each term's share of the mean latency.
    """
    relative = terms / latency_ms[:, None]
    pull = np.sqrt(len(latency_ms)) * strength * np.maximum(relative.mean(axis=0), 1e-12)
    system = np.vstack([relative, np.diag(pull)])
    wanted = np.concatenate([np.ones(len(latency_ms)), np.zeros(len(strength))])
    return np.asarray(nnls(system, wanted, maxiter=50 * (len(strength) + 1))[0], dtype=np.float64)


def log_lookup(terms: Array, costs: Array, fastest_ms: float) -> Array:
    """Predict log ms by the look-up, (m,), with its lower bound, for terms (m, k)."""
    return np.asarray(np.log(np.maximum(terms @ costs, FLOOR * fastest_ms)), dtype=np.float64)


def out_of_fold(terms: Array, latency_ms: Array, strength: Array, fold: NDArray[np.intp]) -> Array:
    """Cross-validated log look-up of each network, (n,)."""
    logs = np.zeros(len(latency_ms))
    for held in np.unique(fold):
        out = fold == held
        costs = fit_terms(terms[~out], latency_ms[~out], strength)
        logs[out] = log_lookup(terms[out], costs, float(latency_ms[~out].min()))
    return logs


def folds(count: int, seed: int = 0) -> NDArray[np.intp]:
    """Assign folds (count,): leave-one-out up to ten networks, ten-fold above."""
    return np.asarray(np.random.default_rng(seed).permutation(count) % min(count, _FOLDS), dtype=np.intp)
