"""Few-shot latency prediction from a few measured networks, an additive prior, and latencies on other devices.

log latency = log look-up + Gaussian process. The look-up is a non-negative sum of the pool's prior terms and of the other
devices' latencies, so it scales physically; the process has kernels over features, terms and the residuals of the other
devices' own look-ups. The hyperprior of the process and the width of the intervals are meta-learned by giving each other
device the role of the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.fit import MIN_MEASUREMENTS, DeviceFit, Settings, fit_device
from hw_latency_model.few_shot.kernels import Rows
from hw_latency_model.few_shot.meta import learn_parameters, pooled_margin, tasks, tune
from hw_latency_model.few_shot.pool import NetworkPool, PreparedPool
from hw_latency_model.few_shot.selection import select
from hw_latency_model.few_shot.special import SpecialFit, fit_special
from search_spaces._common.errors import UserError

Array = NDArray[np.float64]

LEVEL = 0.9
_META_MAX_MEASUREMENTS = 150
_META_WEIGHT = 30.0
# Substitutes for meta-learning without sources, from devices of public tables: margin in standard deviations, and shifts of log
# variances, after ten measurements or fewer, fading out until _META_MAX_MEASUREMENTS.
_UNTRIED_MARGIN = (4.0, 1.7)
_UNTRIED_SHIFTS = {"terms": 4.0, "noise": 1.0}
_UNTRIED_FROM = 10


@dataclass(frozen=True)
class FewShotPrediction:
    """Predicted latencies of m networks, with intervals.

    Attributes:
        latency_ms: predictions (m,).
        low_ms, high_ms: bounds (m,) of the interval that contains a measurement with probability ``level``.
    """

    latency_ms: Array
    low_ms: Array
    high_ms: Array
    level: float


class FewShotModel:
    """Predictor of any network of a pool from a few measurements on the target.

    >>> model = FewShotModel(NetworkPool.of(features, prior_terms, sources_ms))
    >>> rows = model.suggest(10)
    >>> model.fit(rows, measure(rows)).predict(np.arange(len(pool)))
    """

    def __init__(self, pool: NetworkPool, *, level: float = LEVEL, seed: int = 0) -> None:
        """Prepare the pool and learn from its sources; takes one to two seconds for ten sources."""
        self.level = level
        self.margin = _UNTRIED_MARGIN[0]
        self._pool = PreparedPool.of(pool)
        self._seed = seed
        self._settings = learn_parameters(self._pool, np.random.default_rng(seed))
        self._fit: tuple[DeviceFit, SpecialFit] | None = None

    def suggest(self, count: int, *, seed: int = 0, allowed: Rows | None = None) -> Rows:
        """Select the networks whose measurements are most informative about all others; return their rows.

        Uses features and sources only, never the target's latencies.

        Args:
            count: number of networks.
            seed: seed of the sample of candidates.
            allowed: rows that can be measured; None: all.

        Raises:
            UserError: there are fewer networks than ``count``.
        """
        rows = np.arange(len(self._pool.groups)) if allowed is None else np.asarray(allowed, dtype=np.intp)
        if count > len(rows):
            raise UserError(f"{count} networks cannot be chosen among {len(rows)}; ask for fewer.")
        blocks = (*self._pool.blocks(self._pool.expected_log()), *self._pool.group_blocks())
        return select(blocks, self._settings.hyperprior(blocks).mean, rows, count, np.random.default_rng(seed))

    def fit(self, rows: Sequence[int] | Rows, latency_ms: Array) -> FewShotModel:
        """Fit to the latencies (n,) in ms of the networks at these rows.

        Raises:
            UserError: fewer than three measurements, or a latency that is not positive.
        """
        at, measured = np.asarray(rows, dtype=np.intp), np.asarray(latency_ms, dtype=np.float64)
        if len(at) < MIN_MEASUREMENTS or len(at) != len(measured):
            raise UserError(
                f"a few-shot model needs at least {MIN_MEASUREMENTS} measured networks with one latency each, "
                f"found {len(at)} rows and {len(measured)} latencies; measure more."
            )
        if not (np.isfinite(measured) & (measured > 0.0)).all():
            raise UserError("latencies must be finite and above 0 ms; leave out what could not be measured.")
        ordinary = self._pool.ordinary[at]
        base, base_ms = at[ordinary], measured[ordinary]
        if len(base) < MIN_MEASUREMENTS:
            raise UserError(
                f"a few-shot model needs at least {MIN_MEASUREMENTS} measured networks of group 0, the ordinary ones, "
                f"found {len(base)} among {len(at)}; measure more of them."
            )
        settings, played = self._settings, []
        if len(base) <= _META_MAX_MEASUREMENTS:
            played = tasks(self._pool, base, np.random.default_rng(self._seed))
            settings = tune(settings, played) if played else _untried(settings, len(base))
        fit = fit_device(self._pool, base, base_ms, settings, scores=True)
        special = fit_special(self._pool, fit, base, base_ms, at[~ordinary], measured[~ordinary])
        self._fit = fit, special
        own = _upper_quantile(fit.scores, self.level)
        typical = pooled_margin(settings, played, self.level, fit.scores) if played else _untried_margin(len(base))
        share = _META_WEIGHT / (_META_WEIGHT + len(base)) if len(base) <= _META_MAX_MEASUREMENTS else 0.0
        self.margin = share * typical + (1.0 - share) * own
        return self

    def predict(self, rows: Sequence[int] | Rows | None = None) -> FewShotPrediction:
        """Predict the latencies of these rows, or of the whole pool.

        Raises:
            UserError: ``fit`` was not called.
        """
        if self._fit is None:
            raise UserError("there is nothing measured to predict from; call fit(rows, latency_ms) first.")
        at = np.arange(len(self._pool.groups)) if rows is None else np.asarray(rows, dtype=np.intp)
        fit, special = self._fit
        mean, std = fit.predict_log(self._pool, at)
        other = ~self._pool.ordinary[at]
        if other.any():
            mean[other], std[other] = special.correct(mean[other], std[other], at[other])
        half = self.margin * std
        return FewShotPrediction(np.exp(mean), np.exp(mean - half), np.exp(mean + half), self.level)


def _scarcity(count: int) -> float:
    """Interpolate from 1 after few measurements to 0 after many, linearly in their logarithm."""
    part = np.log(_META_MAX_MEASUREMENTS / count) / np.log(_META_MAX_MEASUREMENTS / _UNTRIED_FROM)
    return float(np.clip(part, 0.0, 1.0))


def _untried(settings: Settings, count: int) -> Settings:
    return replace(settings, shifts={name: shift * _scarcity(count) for name, shift in _UNTRIED_SHIFTS.items()})


def _untried_margin(count: int) -> float:
    few, many = _UNTRIED_MARGIN
    return many + (few - many) * _scarcity(count)


def _upper_quantile(scores: Array, level: float) -> float:
    """Compute the (n + 1)-corrected quantile, at most the largest score."""
    rank = min(int(np.ceil((len(scores) + 1) * level)), len(scores))
    return float(np.sort(scores)[rank - 1])
