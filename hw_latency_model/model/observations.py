"""Observations for fitting: one per network, at the machine's median speed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from hw_latency_model.model.targets import kernels_for, target_value
from hw_latency_model.types import KernelSpec, Measurement


@dataclass(frozen=True)
class Observation:
    """Measurements of one network, combined.

    Attributes:
        kernels: kernels of the network, or the parts that represent it (``targets.kernels_for``).
        kernel_shares: share of the value of each kernel; empty if unknown.
        value: target at the machine's median speed; raw: as measured.
        noise_rel: relative uncertainty of the value; noisy: every measurement was marked noisy.
        family: family stated by the measurement, or derived from the kernels.
    """

    kernels: tuple[KernelSpec, ...]
    kernel_shares: tuple[float, ...]
    value: float
    raw: tuple[float, ...]
    noise_rel: float
    noisy: bool
    family: str


def observe(
    measurements: Sequence[Measurement], target: str = "latency_ms", exponent: float = 1.0
) -> tuple[list[Observation], float]:
    """Combine measurements to one observation per network; also return the reference's median in ms.

    Measurements of one network are averaged, so that cross-validation cannot see a network measured twice. Each latency is
    converted to the median speed of the machine by the surrounding reference runs; the raw values are kept as well.

    Args:
        measurements: measurements with their kernels; at least one.
        target: predicted quantity.
        exponent: power of the reference's slowdown by which networks slow down.
    """
    base_ms = float(np.median([item.reference_ms for item in measurements]))
    groups: dict[tuple[tuple[Any, ...], ...], list[Measurement]] = defaultdict(list)
    for item in measurements:
        groups[tuple(sorted(map(_nameless, item.kernels)))].append(item)
    observations = []
    for items in groups.values():
        first = next((item for item in items if item.kernel_shares), items[0])
        raw = [target_value(item, target) for item in items]
        level = [value * speed_factor(item, base_ms, exponent) for value, item in zip(raw, items, strict=True)]
        kernels = tuple(kernels_for(first.kernels, target))
        observations.append(
            Observation(
                kernels=kernels,
                kernel_shares=first.kernel_shares if len(kernels) == len(first.kernel_shares) else (),
                value=float(np.exp(np.mean(np.log(level)))),
                raw=tuple(raw),
                noise_rel=min(item.noise_rel for item in items),
                noisy=all(item.noisy for item in items),
                family=first.family or _build(first.kernels),
            )
        )
    return observations, base_ms


def speed_factor(measurement: Measurement, base_ms: float, exponent: float = 1.0) -> float:
    """Factor that converts a measured value to the speed at which the reference network takes ``base_ms``; 1 without a reference.

    Args:
        measurement: with the reference that ran around it.
        base_ms: of the reference network.
        exponent: power of the reference's slowdown by which the network slows down.
    """
    if base_ms <= 0.0 or measurement.reference_ms <= 0.0:
        return 1.0
    return math.pow(base_ms / measurement.reference_ms, exponent)


def noise_factor(measurement: Measurement) -> float:
    """Variance relative to that of a good measurement."""
    return (1.0 + (measurement.noise_rel / 0.05) ** 2) * (4.0 if measurement.noisy else 1.0)


_NAMELESS = attrgetter(
    "kind", "macs", "input_bytes", "weight_bytes", "output_bytes", "in_channels", "out_channels", "kernel", "stride",
    "groups", "in_hw", "out_hw", "fused", "dilation"
)  # fmt: skip


def _nameless(kernel: KernelSpec) -> tuple[Any, ...]:
    value: tuple[Any, ...] = _NAMELESS(kernel)
    return value


def _build(kernels: Sequence[KernelSpec]) -> str:
    """Number of kernels by arithmetic kind, mostly the same for all sizes of one family."""
    counts = Counter(f"{kernel.kernel[0]}x{min(kernel.groups, 2)}" for kernel in kernels if kernel.macs)
    return " ".join(f"{count}*{name}" for name, count in sorted(counts.items()))
