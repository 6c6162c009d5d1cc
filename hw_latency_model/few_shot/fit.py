"""Fit of look-up and Gaussian process to one device's few measurements."""

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

# Log variance (and log length) per kernel, and log noise: means over devices of public tables.
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
"""Maximum number of measurements, the last ones, for hyperparameter optimisation, which takes cubic time."""


@dataclass(frozen=True)
class Settings:
    """Fit settings for a given number of measurements.

    Attributes:
        learnt: mean and standard deviation of log parameters by kernel name; kernels not listed have the defaults.
        shifts: shifts of the means, by the first word of the kernel's name, or ``noise``.
        error: mean log error on other devices by (physical, source) strength of the look-up; empty without other devices.
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
        """Mean and standard deviation of the named kernel's log parameters, before shifts."""
        if name in self.learnt:
            return self.learnt[name]
        words = name.split()
        values = np.array(_DEFAULTS[name if len(words) == 1 else f"{words[0]} {words[-1]}"])
        return values, np.full(len(values), _DEFAULT_STD)


@dataclass(frozen=True)
class DeviceFit:
    """Look-up and process of one device.

    Attributes:
        costs, fastest_ms: parameters of the look-up; strength: its (k + m,) regularisation.
        scores: (n,) leave-out |error| of each measured network in standard deviations; empty if not computed.
        left_out: (n,) log latency of each measured network as predicted without it; empty if not computed.
    """

    costs: Array
    strength: Array
    fastest_ms: float
    process: Conditioned
    scores: Array
    left_out: Array

    def predict_log(self, pool: PreparedPool, rows: Rows) -> tuple[Array, Array]:
        """Predict mean and standard deviation of the log latency, both (m,)."""
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
    """Fit to latencies (n,) of these rows, all of group 0.

    Args:
        strengths: regularisation of physical terms and of sources; None chooses by cross-validation here and on other devices.
        optimise: optimise the process's parameters instead of using the means of the hyperprior.
        scores: also cross-validate.
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
    fit = DeviceFit(costs, strength, fastest_ms, process, np.zeros(0), np.zeros(0))
    if not scores:
        return fit
    errors, stds = _left_out(terms[rows], latency_ms, fit)
    return replace(fit, scores=np.abs(errors) / stds, left_out=np.log(latency_ms) - errors)


def strength_vector(pool: PreparedPool, strengths: tuple[float, float]) -> Array:
    return np.repeat(strengths, [pool.terms.shape[1], pool.sources])


def strength_pairs(pool: PreparedPool) -> list[tuple[float, float]]:
    """Candidate regularisation strengths: (physical terms, sources)."""
    return [(one, other) for one in STRENGTHS for other in (STRENGTHS if pool.sources else STRENGTHS[:1])]


def _choose_strengths(pool: PreparedPool, terms: Array, latency_ms: Array, settings: Settings) -> tuple[float, float]:
    """Choose the pair with the least error: cross-validated on this device, and on others after as many measurements.

    Other devices weigh as much as ``_META_NETWORKS`` networks of this one, because few cross-validated errors are unreliable.
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


def _left_out(terms: Array, latency_ms: Array, fit: DeviceFit) -> tuple[Array, Array]:
    """Cross-validated log error of each network, (n,), and the standard deviation predicted for it, (n,)."""
    logs = np.log(latency_ms)
    fold = folds(len(logs))
    errors, stds = np.zeros(len(logs)), np.ones(len(logs))
    process = fit.process
    for held in np.unique(fold):
        out = fold == held
        costs = fit_terms(terms[~out], latency_ms[~out], fit.strength)
        rest = logs - log_lookup(terms, costs, float(latency_ms[~out].min()))
        centre = float(np.median(rest[~out]))
        part = Conditioned.on(process.blocks, process.theta, process.rows[~out], rest[~out], centre)
        mean, stds[out] = part.predict(process.rows[out])
        errors[out] = rest[out] - mean
    return errors, stds
