"""Predictors of one device that a few-shot model averages, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.fit import DeviceFit
from hw_latency_model.few_shot.kernels import Rows
from hw_latency_model.few_shot.lookup import fit_terms, folds, log_lookup, out_of_fold
from hw_latency_model.few_shot.pool import PreparedPool

Array = NDArray[np.float64]

_BELIEF, _TRUST = 0.6, 20.0
"""Weight of the fit with sources before anything is measured, and the measurements that this belief is worth: cross-validated errors of ten
networks say little. Chosen on five devices of NAS-Bench-201, with ten measurements each."""
_FAR_LESS = 0.25
_UNPENALISED = 1e-3


@dataclass(frozen=True)
class Expert:
    """Look-up and process on a pool, with or without its sources.

    Attributes:
        margin: half width of the interval in standard deviations.
    """

    pool: PreparedPool
    fit: DeviceFit
    margin: float

    @property
    def left_out(self) -> Array:
        """Log latency of each measured network as predicted without it, (n,)."""
        return self.fit.left_out

    def predict(self, rows: Rows) -> tuple[Array, Array]:
        """Predict log latency and half width of its interval, both (m,)."""
        mean, std = self.fit.predict_log(self.pool, rows)
        return mean, self.margin * std


@dataclass(frozen=True)
class WorkLine:
    """Latency as a constant and a multiple of the arithmetic.

    Attributes:
        terms: (networks, 2) ones and arithmetic.
        costs: (2,) ms of each.
        half: half width of the interval of the log latency.
        left_out: (n,) log latency of each measured network as predicted without it.
    """

    terms: Array
    costs: Array
    fastest_ms: float
    half: float
    left_out: Array

    @classmethod
    def fit(cls, work: Array, rows: Rows, latency_ms: Array, level: float) -> WorkLine:
        """Fit to latencies (n,) in ms of these rows; ``work`` is that of all networks."""
        terms = np.stack([np.ones(len(work)), work], axis=1)
        strength = np.full(2, _UNPENALISED)
        costs = fit_terms(terms[rows], latency_ms, strength)
        left_out = out_of_fold(terms[rows], latency_ms, strength, folds(len(rows)))
        half = upper_quantile(np.abs(left_out - np.log(latency_ms)), level)
        return cls(terms, costs, float(latency_ms.min()), half, left_out)

    def predict(self, rows: Rows) -> tuple[Array, Array]:
        """Predict log latency and half width of its interval, both (m,)."""
        return log_lookup(self.terms[rows], self.costs, self.fastest_ms), np.full(len(rows), self.half)


def weights_of(experts: Sequence[Expert | WorkLine], logs: Array) -> Array:
    """Weights (e,) ≥ 0 with sum 1 of predictors: two fits by belief and their cross-validated errors, and a `WorkLine` behind them.

    A `WorkLine` counts only where its squared error is far less than that of the fits.

    Args:
        logs: (n,) measured log latencies.
    """
    weights = np.ones(1)
    errors = experts[0].left_out - logs
    for item in experts[1:]:
        others = item.left_out - logs
        if isinstance(item, Expert):
            share = (_TRUST * _BELIEF + len(logs) * _best_share(errors, others)) / (_TRUST + len(logs))
        elif np.mean(others**2) < _FAR_LESS * np.mean(errors**2):
            share = _best_share(errors, others)
        else:
            share = 1.0
        weights = np.append(share * weights, 1.0 - share)
        errors = share * errors + (1.0 - share) * others
    return np.asarray(weights, dtype=np.float64)


def _best_share(first: Array, second: Array) -> float:
    """Share of the first predictor in the mean of two with the least squared error, from errors (n,)."""
    apart = second - first
    length = float(apart @ apart)
    return float(np.clip(float(second @ apart) / length, 0.0, 1.0)) if length else 1.0


def upper_quantile(scores: Array, level: float) -> float:
    """Compute the (n + 1)-corrected quantile, at most the largest score."""
    rank = min(int(np.ceil((len(scores) + 1) * level)), len(scores))
    return float(np.sort(scores)[rank - 1])
