"""Maximum a posteriori fit of the Nano's prior to whole networks of several sources; all parameters are positive.

Each source has its own overhead and a factor for its board and clock, so that the kernels' parameters do not absorb them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from hw_latency_model.model.nano_columns import joined_columns, kernel_columns
from hw_latency_model.model.nano_prior import DEFAULTS, DENSE_CLASSES, NAMES, NanoTerms, evaluate, nano_terms
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]

RATE_LOG_STD = 0.7
GAIN_LOG_STD = 0.15
SHARED_LOG_STD = 0.8
DENSE_RATE_LOG_STD = 0.3
TIGHT = {"bandwidth_gbs": 0.1, "bandwidth_fp16": 0.1, "loss_fp16": 0.15, "launch_fp16": 0.3}
"""Physical limits that override the measurements: at most 25.6 GB/s, and no FP16 speed-up of overheads."""


@dataclass(frozen=True)
class Source:
    """Measurements of one origin.

    Attributes:
        name: of the origin.
        networks: kernels of each network.
        latency_ms: (n,) of each.
        precision: ``fp32`` or ``fp16``.
        log_std: by how much its networks may miss a perfect model, in e-folds.
        count_as: how many independent networks the source is worth: thousands of one kind say little more than dozens.
        scale_log_std: how far its board, clock or way of timing may be from the others, in e-folds.
        overhead_ms: what every network pays beside its kernels (copies, the call), before the fit; 0 means nothing.
    """

    name: str
    networks: Sequence[Sequence[KernelSpec]]
    latency_ms: Array
    precision: str
    log_std: float = 0.08
    count_as: float = 100.0
    scale_log_std: float = 0.05
    overhead_ms: float = 0.0


@dataclass(frozen=True)
class Regression:
    """Result of a fit.

    Attributes:
        parameters: value by name, in the order of ``NAMES``.
        scale: factor of each source; overhead_ms: of each source.
    """

    parameters: dict[str, float]
    scale: dict[str, float]
    overhead_ms: dict[str, float]


@dataclass(frozen=True)
class KnownGain:
    """Speed-up of one network in FP16 over FP32, where only this ratio is known."""

    kernels: Sequence[KernelSpec]
    gain: float
    log_std: float = 0.1


class _Problem:
    """All sources as one flat list of kernels."""

    def __init__(
        self, sources: Sequence[Source], gains: Sequence[KnownGain] = (), center: Mapping[str, float] = DEFAULTS
    ) -> None:
        self.gains = [
            (nano_terms(columns, "fp32"), nano_terms(columns, "fp16"), item)
            for item in gains
            for columns in [kernel_columns(item.kernels)]
        ]
        self.sources = sources
        parts = [_flat(source) for source in sources]
        self.terms = NanoTerms(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        counts = [len(kernels) for source in sources for kernels in source.networks]
        self.network = np.repeat(np.arange(len(counts)), counts)
        self.source = np.repeat(np.arange(len(sources)), [len(source.networks) for source in sources])
        self.log_ms = np.log(np.concatenate([source.latency_ms for source in sources]))
        weights = [(min(1.0, item.count_as / len(item.networks)) ** 0.5) / item.log_std for item in sources]
        self.weight = np.array(weights)[self.source]
        self.has_overhead = np.array([item.overhead_ms > 0 for item in sources], dtype=np.float64)
        self.start = np.log(
            np.concatenate(
                [
                    [center[name] for name in NAMES],
                    np.ones(len(sources)),
                    [max(item.overhead_ms, 1e-3) for item in sources],
                ]
            )
        )
        self.log_std = np.concatenate(
            [
                [_log_std(name) for name in NAMES],
                [item.scale_log_std for item in sources],
                np.full(len(sources), 0.5),
            ]
        )

    def bounds(self) -> tuple[Array, Array]:
        """FP16 computes twice as much per cycle at best, and never less: TensorRT may take the FP32 kernel instead."""
        at_most_twice = np.array([name.startswith("gain.") or name == "loss_fp16" for name in NAMES])
        low, high = np.full(len(self.start), -np.inf), np.full(len(self.start), np.inf)
        low[: len(NAMES)][at_most_twice] = np.log(1.0)
        high[: len(NAMES)][at_most_twice] = np.log(2.0)
        return low, high

    def predicted_log_ms(self, point: Array) -> Array:
        values = np.exp(point)
        count = len(self.sources)
        kernel_ms = evaluate(self.terms, values[: len(NAMES)])
        total = np.bincount(self.network, weights=kernel_ms, minlength=len(self.source))
        scale, overhead = values[-2 * count : -count], values[-count:] * self.has_overhead
        return np.asarray(np.log(total * scale[self.source] + overhead[self.source]), dtype=np.float64)

    def residuals(self, point: Array) -> Array:
        data = (self.predicted_log_ms(point) - self.log_ms) * self.weight
        values = np.exp(point[: len(NAMES)])
        gains = [
            (np.log(evaluate(slow, values).sum() / evaluate(quick, values).sum()) - np.log(item.gain)) / item.log_std
            for slow, quick, item in self.gains
        ]
        return np.concatenate([data, gains, (point - self.start) / self.log_std])


def regress(
    sources: Sequence[Source],
    gains: Sequence[KnownGain] = (),
    *,
    begin: Regression | None = None,
    center: Mapping[str, float] = DEFAULTS,
    max_evaluations: int = 25,
) -> Regression:
    """Fit the parameters to all sources; outliers count less (soft L1).

    Args:
        begin: a fit to nearly the same sources, to start the search from.
        center: parameters by name before the fit, which those that the sources do not determine keep.
        max_evaluations: of the residuals' derivatives at most.
    """
    problem = _Problem(sources, gains, center)
    names = [source.name for source in sources]
    start = problem.start.copy()
    if begin is not None:
        count = len(sources)
        start[: len(NAMES)] = np.log([begin.parameters[name] for name in NAMES])
        start[-2 * count : -count] = np.log([begin.scale.get(name, 1.0) for name in names])
    low, high = problem.bounds()
    start = np.clip(start, low + 1e-3, high - 1e-3)
    found = least_squares(
        problem.residuals, start, bounds=(low, high), loss="soft_l1", f_scale=2.0, max_nfev=max_evaluations
    )
    values = np.exp(found.x)
    count = len(sources)
    return Regression(
        dict(zip(NAMES, values[: len(NAMES)].tolist(), strict=True)),
        dict(zip(names, values[-2 * count : -count].tolist(), strict=True)),
        dict(zip(names, (values[-count:] * problem.has_overhead).tolist(), strict=True)),
    )


def _flat(source: Source) -> tuple[Array, ...]:
    columns = joined_columns(source.networks)
    terms = nano_terms(columns, source.precision)
    return tuple(getattr(terms, item.name) for item in fields(terms))


UNMEASURED = frozenset({"resize_linear", "resize_nearest"})
"""Kinds without measurements, which must not explain a network's speed-up in FP16."""


def _log_std(name: str) -> float:
    """Return the prior log standard deviation of a parameter around its physical start."""
    group, _, klass = name.partition(".")
    if group == "gain":
        return GAIN_LOG_STD
    if group == "rate" and klass in UNMEASURED:
        return 0.15
    if group == "rate":
        return DENSE_RATE_LOG_STD if klass in DENSE_CLASSES else RATE_LOG_STD
    return TIGHT.get(name, SHARED_LOG_STD)
