"""Correction for networks of groups other than 0, from their few measurements.

A compiler may remove nearly all of a network whose output does not depend on its input, where an eager framework computes
it. The behaviour of a device is inferred from a measurement, or from the most similar other device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.fit import DeviceFit
from hw_latency_model.few_shot.kernels import Block, Conditioned, Hyperprior, Rows, fit_theta
from hw_latency_model.few_shot.pool import PreparedPool

Array = NDArray[np.float64]

_UNKNOWN_LOG_STD = 1.0
"""Standard deviation of the log without any measurement or other device."""
_MIN_COMMON = 3


@dataclass(frozen=True)
class SpecialFit:
    """Correction (log) for networks of other groups than 0.

    Attributes:
        expected: (n,) correction by the most similar source, for every network of the pool.
        process: further correction by the measured special networks; None without any.
    """

    expected: Array
    process: Conditioned | None

    def correct(self, mean: Array, std: Array, rows: Rows) -> tuple[Array, Array]:
        """Correct mean and standard deviation of the log latency (m,) that the model of group 0 predicts for special networks."""
        shifted = mean + self.expected[rows]
        if self.process is None:
            return shifted, np.hypot(std, _UNKNOWN_LOG_STD)
        more, spread = self.process.predict(rows)
        return shifted + more, np.hypot(std, spread)


def fit_special(
    pool: PreparedPool, fit: DeviceFit, ordinary_rows: Rows, ordinary_ms: Array, rows: Rows, latency_ms: Array
) -> SpecialFit:
    """Fit to the measured special networks (rows, latency_ms), possibly none, in addition to group 0."""
    expected = _of_most_similar(pool, ordinary_rows, ordinary_ms)
    if not len(rows):
        return SpecialFit(expected, None)
    mean, _ = fit.predict_log(pool, rows)
    targets = np.log(latency_ms) - mean - expected[rows]
    blocks = [*pool.group_blocks()]
    parameters, deviations = [1.0], [1.0]
    for index, view in enumerate(pool.views):
        blocks.append(Block(f"view {index}", "smooth", view))
        parameters += [-1.0, 0.5]
        deviations += [2.0, 0.5]
    prior = Hyperprior(np.array([*parameters, -3.0]), np.array([*deviations, 1.5]))
    theta = fit_theta(blocks, rows, targets, prior)
    return SpecialFit(expected, Conditioned.on(blocks, theta, rows, targets, 0.0))


def _of_most_similar(pool: PreparedPool, rows: Rows, latency_ms: Array) -> Array:
    """Log deviation of special networks from the look-up, (n,), on the source most correlated in group 0."""
    nothing = np.zeros(len(pool.groups))
    special = ~pool.ordinary
    if not special.any() or len(rows) < _MIN_COMMON:
        return nothing
    known = [column for column in range(pool.sources) if pool.known[special, column].mean() > 0.5]
    if not known:
        return nothing
    logs = np.log(latency_ms) - np.log(latency_ms).mean()
    others = pool.logs[rows][:, known] - pool.logs[rows][:, known].mean(axis=0)
    norms = np.sqrt((others**2).sum(axis=0) * (logs @ logs))
    likeness = others.T @ logs / np.maximum(norms, 1e-12)
    best = known[int(np.argmax(likeness))]
    ordinary_level = float(np.median(pool.rest[pool.ordinary, best]))
    return np.where(special, pool.rest[:, best] - ordinary_level, 0.0)
