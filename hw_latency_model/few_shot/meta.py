"""Meta-learning over devices: each source device takes the role of the target in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.fit import MIN_MEASUREMENTS, Settings, fit_device, strength_pairs
from hw_latency_model.few_shot.kernels import Rows
from hw_latency_model.few_shot.pool import PreparedPool

Array = NDArray[np.float64]

_THETA_ROWS = 200
_TEST_ROWS = 400
_MIN_STD, _MAX_STD = 0.5, 1.5
_SHIFTS = (-1.0, 0.0, 1.0, 2.0, 3.0)
_SHIFTED = (("terms", "sources"), ("rest",), ("view",), ("noise",))
_CLIP = 4.0
_UNRELIABLE = 3.0
"""Number of cross-validated errors at which their mean has weight one half."""
_LEAST_MISS = 0.05


@dataclass(frozen=True)
class Task:
    """Source device in the role of the target: a small pool whose first rows are measured and whose other rows are predicted."""

    pool: PreparedPool
    logs: Array
    measured: Rows
    tested: Rows


def learn_parameters(pool: PreparedPool, rng: np.random.Generator) -> Settings:
    """Learn mean and standard deviation, over the pool's sources, of the process's parameters after 200 measurements."""
    found: dict[str, list[Array]] = {}
    for task in tasks(pool, None, rng):
        process = fit_device(task.pool, task.measured, np.exp(task.logs[task.measured]), Settings()).process
        at = 0
        for block in process.blocks:
            found.setdefault(f"{block.name} {block.kind}", []).append(process.theta[at : at + block.parameters])
            at += block.parameters
        found.setdefault("noise", []).append(process.theta[at:])
    plain = Settings()
    learnt = {}
    for name, values in found.items():
        table = np.stack([plain.parameters(name)[0], *values])
        learnt[name] = (table.mean(axis=0), np.clip(table.std(axis=0), _MIN_STD, _MAX_STD))
    return Settings(learnt)


def tasks(pool: PreparedPool, rows: Rows | None, rng: np.random.Generator) -> list[Task]:
    """Create one task per source: measured where the target is, or at random; tested on random networks of group 0."""
    result = []
    for column in range(pool.sources):
        known = pool.known[:, column]
        drawn = rng.permutation(np.flatnonzero(known & pool.ordinary))
        tested = drawn[:_TEST_ROWS]
        measured = drawn[_TEST_ROWS : _TEST_ROWS + _THETA_ROWS] if rows is None else rows[known[rows]]
        tested = np.setdiff1d(tested, measured)
        if len(measured) < MIN_MEASUREMENTS or len(tested) < MIN_MEASUREMENTS:
            continue
        together = np.concatenate([measured, tested])
        part = pool.without_source(column).take(together)
        order = np.arange(len(together))
        result.append(Task(part, pool.logs[together, column], order[: len(measured)], order[len(measured) :]))
    return result


def tune(settings: Settings, played: Sequence[Task]) -> Settings:
    """Choose strengths of the look-up and shifts of the variances by the likelihood of the tasks' tests."""
    if not played:
        return settings
    errors = {
        pair: _mean([_outcome(task, settings, pair) for task in played])[1] for pair in strength_pairs(played[0].pool)
    }
    best_pair = min(errors, key=lambda pair: errors[pair])
    tuned = replace(settings, error=errors)
    loss = _mean([_outcome(task, tuned, best_pair) for task in played])[0]
    for _ in range(2):
        for names in _SHIFTED:
            for shift in _SHIFTS:
                tried = replace(tuned, shifts={**tuned.shifts, **dict.fromkeys(names, shift)})
                other = _mean([_outcome(task, tried, best_pair) for task in played])[0]
                if other < loss:
                    loss, tuned = other, tried
    return tuned


def pooled_margin(settings: Settings, played: Sequence[Task], level: float, scores: Array) -> float:
    """Compute the quantile of |error| in standard deviations over the tests of all tasks, each fitted as the target is.

    A process is overconfident on some devices and underconfident on others, which its cross-validated errors show. The tests
    are taken relative to these errors, and the quantile is scaled by the target's (n,) ``scores``.
    """
    reliability = len(scores) / (len(scores) + _UNRELIABLE)
    errors = []
    for task in played:
        fit = fit_device(task.pool, task.measured, np.exp(task.logs[task.measured]), settings, scores=True)
        mean, std = fit.predict_log(task.pool, task.tested)
        errors.append(np.abs(task.logs[task.tested] - mean) / std / _miss(fit.scores) ** reliability)
    return float(np.quantile(np.concatenate(errors), level) * _miss(scores) ** reliability)


def _miss(scores: Array) -> float:
    return max(float(scores.mean()), _LEAST_MISS)


def _outcome(task: Task, settings: Settings, pair: tuple[float, float]) -> tuple[float, float]:
    """Compute mean negative log likelihood, with outliers clipped, and mean absolute log error of the tests."""
    latency_ms = np.exp(task.logs[task.measured])
    fit = fit_device(task.pool, task.measured, latency_ms, settings, strengths=pair, optimise=False)
    mean, std = fit.predict_log(task.pool, task.tested)
    error = np.abs(task.logs[task.tested] - mean)
    score = np.minimum(error / std, _CLIP + np.log1p(error / std))
    return float(np.mean(0.5 * score**2 + np.log(std))), float(np.mean(error))


def _mean(outcomes: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return float(np.mean([one for one, _ in outcomes])), float(np.mean([other for _, other in outcomes]))
