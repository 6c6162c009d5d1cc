"""Few-shot latency prediction from a few measured networks, an additive prior, and latencies on other devices.

log latency = log look-up + Gaussian process. The look-up is a non-negative sum of the pool's prior terms and of the other
devices' latencies, so it scales physically; the process has kernels over features, terms and the residuals of the other
devices' own look-ups. The hyperprior of the process and the width of the intervals are meta-learned by giving each other
device the role of the target. Sources unlike the target are discounted: predictions with sources, without, and from arithmetic
alone are averaged with weights from cross-validation on the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.experts import Expert, WorkLine, upper_quantile, weights_of
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

    Attributes:
        level: nominal probability of the intervals.
        margin: half width of the interval, in standard deviations, of the fit with sources.
        weights: of the averaged predictions after `fit`: with sources, then without (if there are sources), then from ``work``
            alone (if the pool has it); of the first alone after more than 150 measurements.

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
        self.weights: Array = np.ones(1)
        self._fit: tuple[tuple[Expert | WorkLine, ...], SpecialFit] | None = None

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
        every = np.arange(len(self._pool.groups))
        rows = every if allowed is None else np.asarray(allowed, dtype=np.intp)
        if count > len(rows):
            raise UserError(f"{count} networks cannot be chosen among {len(rows)}; ask for fewer.")
        blocks = (*self._pool.blocks(self._pool.expected_log()), *self._pool.group_blocks())
        theta = self._settings.hyperprior(blocks).mean
        return select(blocks, theta, rows, count, np.random.default_rng(seed), every)

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
        experts: list[Expert | WorkLine] = [self._with_sources(base, base_ms)]
        if len(base) <= _META_MAX_MEASUREMENTS:
            if self._pool.sources:
                experts.append(self._without_sources(base, base_ms))
            if self._pool.work is not None:
                experts.append(WorkLine.fit(self._pool.work, base, base_ms, self.level))
        first = experts[0]
        assert isinstance(first, Expert)
        self.margin = first.margin
        self.weights = weights_of(experts, np.log(base_ms))
        special = fit_special(self._pool, first.fit, base, base_ms, at[~ordinary], measured[~ordinary])
        self._fit = tuple(experts), special
        return self

    def _with_sources(self, rows: Rows, latency_ms: Array) -> Expert:
        few = len(rows) <= _META_MAX_MEASUREMENTS
        settings = self._settings
        played = tasks(self._pool, rows, np.random.default_rng(self._seed)) if few else []
        if few:
            settings = tune(settings, played) if played else _untried(settings, len(rows))
        fit = fit_device(self._pool, rows, latency_ms, settings, scores=True)
        typical = pooled_margin(settings, played, self.level, fit.scores) if played else _untried_margin(len(rows))
        return Expert(self._pool, fit, self._margin(fit, typical))

    def _without_sources(self, rows: Rows, latency_ms: Array) -> Expert:
        bare = self._pool.without_sources()
        fit = fit_device(bare, rows, latency_ms, _untried(Settings(), len(rows)), scores=True)
        return Expert(bare, fit, self._margin(fit, _untried_margin(len(rows))))

    def _margin(self, fit: DeviceFit, typical: float) -> float:
        count = len(fit.scores)
        share = _META_WEIGHT / (_META_WEIGHT + count) if count <= _META_MAX_MEASUREMENTS else 0.0
        return share * typical + (1.0 - share) * upper_quantile(fit.scores, self.level)

    def predict(self, rows: Sequence[int] | Rows | None = None) -> FewShotPrediction:
        """Predict the latencies of these rows, or of the whole pool.

        Raises:
            UserError: ``fit`` was not called.
        """
        if self._fit is None:
            raise UserError("there is nothing measured to predict from; call fit(rows, latency_ms) first.")
        at = np.arange(len(self._pool.groups)) if rows is None else np.asarray(rows, dtype=np.intp)
        experts, special = self._fit
        parts = [item.predict(at) for item in experts]
        mean = np.stack([part for part, _ in parts], axis=1) @ self.weights
        half = np.stack([part for _, part in parts], axis=1) @ self.weights
        other = ~self._pool.ordinary[at]
        if other.any():
            first = experts[0]
            assert isinstance(first, Expert)
            base, std = first.fit.predict_log(self._pool, at[other])
            mean[other], std = special.correct(base, std, at[other])
            half[other] = self.margin * std
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
