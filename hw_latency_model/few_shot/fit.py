"""Fitting look-up and process to one device's few measurements, and predicting from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.kernels import Block, Conditioned, Hyperprior, Rows, fit_theta
from hw_latency_model.few_shot.lookup import fit_terms, folds, log_lookup, out_of_fold
from hw_latency_model.few_shot.pool import PreparedPool

Array = NDArray[np.float64]

MIN_MEASUREMENTS = 3
STRENGTHS = (0.01, 0.03, 0.1, 0.3)

# Log variance (and log length) per kernel, and log noise: means of what devices of public tables needed.
_DEFAULTS: dict[str, tuple[float, ...]] = {
    "view linear": (-8.5,),
    "view smooth": (-5.5, 1.0),
    "terms linear": (-6.5,),
    "rest linear": (-8.0,),
    "rest smooth": (-5.8, 1.2),
    "sources linear": (-7.5,),
    "groups linear": (1.0,),
    "noise": (-7.0,),
}
_DEFAULT_STD = 1.5
_META_NETWORKS = 100.0
_THETA_ROWS = 400
"""Parameters are found on at most so many, the last ones measured; more change little and cost their cube."""


@dataclass(frozen=True)
class Settings:
    """How to fit after a certain number of measurements.

    Attributes:
        learnt: mean and deviation of log parameters by kernel name; the defaults where a kernel is not in it.
        shifts: what is added to the means, by the first word of the kernel's name, or ``noise``.
        error: by (physical, source) strength of the look-up: mean log error on other devices, empty where there are none.
    """

    learnt: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    shifts: Mapping[str, float] = field(default_factory=dict)
    error: Mapping[tuple[float, float], float] = field(default_factory=dict)

    def hyperprior(self, blocks: Sequence[Block]) -> Hyperprior:
        means, stds = [], []
        for name in (*(f"{block.name} {block.kind}" for block in blocks), "noise"):
            mean, std = self.parameters(name)
            shift = np.zeros(len(mean))
            shift[0] = self.shifts.get(name.split()[0], 0.0)
            means.append(mean + shift)
            stds.append(std)
        return Hyperprior(np.concatenate(means), np.concatenate(stds))

    def parameters(self, name: str) -> tuple[Array, Array]:
        """Mean and deviation of the log parameters of the kernel of that name, before shifts."""
        if name in self.learnt:
            return self.learnt[name]
        words = name.split()
        values = np.array(_DEFAULTS[name if len(words) == 1 else f"{words[0]} {words[-1]}"])
        return values, np.full(len(values), _DEFAULT_STD)


@dataclass(frozen=True)
class DeviceFit:
    """One device's look-up and process.

    Attributes:
        costs, fastest_ms: of the look-up; strength: its (k + m,) pulls.
        scores: (n,) |error| in deviations of each measured network when left out; empty where not asked for.
    """

    costs: Array
    strength: Array
    fastest_ms: float
    process: Conditioned
    scores: Array

    def predict_log(self, pool: PreparedPool, rows: Rows) -> tuple[Array, Array]:
        """Mean and deviation of the log latency, both (m,)."""
        mean, std = self.process.predict(rows)
        return log_lookup(pool.lookup_terms[rows], self.costs, self.fastest_ms) + mean, std


def fit_device(
    pool: PreparedPool,
    rows: Rows,
    latency_ms: Array,
    settings: Settings,
    *,
    strengths: tuple[float, float] | None = None,
    optimise: bool = True,
    scores: bool = False,
) -> DeviceFit:
    """Fit to latencies (n,) of these rows, all of them ordinary.

    Args:
        strengths: of physical terms and of sources; None chooses by cross-validation and what other devices needed.
        optimise: the process's parameters; the hyperprior's means stand otherwise.
        scores: also leave networks out in turn.
    """
    terms = pool.lookup_terms
    if strengths is None:
        strengths = _choose_strengths(pool, terms[rows], latency_ms, settings)
    strength = strength_vector(pool, strengths)
    fastest_ms = float(latency_ms.min())
    costs = fit_terms(terms[rows], latency_ms, strength)
    log_scale = log_lookup(terms, costs, fastest_ms)
    blocks = pool.blocks(log_scale)
    prior = settings.hyperprior(blocks)
    targets = np.log(latency_ms) - log_scale[rows]
    centre = float(np.median(targets))
    part = slice(-_THETA_ROWS, None)
    theta = fit_theta(blocks, rows[part], targets[part] - centre, prior) if optimise else prior.mean
    process = Conditioned.on(blocks, theta, rows, targets, centre)
    fit = DeviceFit(costs, strength, fastest_ms, process, np.zeros(0))
    return replace(fit, scores=_left_out(terms[rows], latency_ms, fit)) if scores else fit


def strength_vector(pool: PreparedPool, strengths: tuple[float, float]) -> Array:
    return np.repeat(strengths, [pool.terms.shape[1], pool.sources])


def strength_pairs(pool: PreparedPool) -> list[tuple[float, float]]:
    """Pulls worth trying: of physical terms, of sources."""
    return [(one, other) for one in STRENGTHS for other in (STRENGTHS if pool.sources else STRENGTHS[:1])]


def _choose_strengths(pool: PreparedPool, terms: Array, latency_ms: Array, settings: Settings) -> tuple[float, float]:
    """The pair with the least error: cross-validated on this device, and on others after as many measurements.

    Other devices count as much as ``_META_NETWORKS`` networks of this one: few errors left out say little of what is best.
    """
    fold = folds(len(latency_ms))
    own = len(latency_ms) / (len(latency_ms) + _META_NETWORKS) if settings.error else 1.0
    best = (float("inf"), (0.0, 0.0))
    for pair in strength_pairs(pool):
        logs = out_of_fold(terms, latency_ms, strength_vector(pool, pair), fold)
        error = own * float(np.mean(np.abs(logs - np.log(latency_ms))))
        error += (1.0 - own) * settings.error.get(pair, 0.0)
        best = min(best, (error, pair))
    return best[1]


def _left_out(terms: Array, latency_ms: Array, fit: DeviceFit) -> Array:
    """(n,) |log error| in deviations of each network by look-up and process that were not shown its fold."""
    logs = np.log(latency_ms)
    fold = folds(len(logs))
    result = np.zeros(len(logs))
    process = fit.process
    for held in np.unique(fold):
        out = fold == held
        costs = fit_terms(terms[~out], latency_ms[~out], fit.strength)
        rest = logs - log_lookup(terms, costs, float(latency_ms[~out].min()))
        centre = float(np.median(rest[~out]))
        part = Conditioned.on(process.blocks, process.theta, process.rows[~out], rest[~out], centre)
        mean, std = part.predict(process.rows[out])
        result[out] = np.abs(rest[out] - mean) / std
    return result
