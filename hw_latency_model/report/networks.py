"""Cross-validated predictions of whole networks: readings, errors by family, coverage of the intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from hw_latency_model.model.observations import speed_factor
from hw_latency_model.report.parts import CoverageBand, GroupErrors, Reading
from hw_latency_model.types import KernelSpec, LatencyEstimate, Measurement

if TYPE_CHECKING:
    from hw_latency_model.model.latency_model import LatencyModel

LEAST_NETWORKS = 8
"""Minimum number of networks for cross-validation."""
NO_FAMILY = "not stated"
_WILSON_Z = 1.96
_FAST_TO_SLOW = ("fastest third", "middle third", "slowest third")


def by_network(measurements: Sequence[Measurement]) -> list[list[Measurement]]:
    """Group measurements with kernels by equal kernels, regardless of the subject."""
    groups: dict[frozenset[tuple[object, int]], list[Measurement]] = defaultdict(list)
    for item in measurements:
        if item.kernels:
            counts: dict[object, int] = defaultdict(int)
            for kernel in item.kernels:
                counts[shape_key(kernel)] += 1
            groups[frozenset(counts.items())].append(item)
    return list(groups.values())


def shape_key(kernel: KernelSpec) -> tuple[object, ...]:
    """Key that is equal for kernels of the same cost on a device."""
    return tuple(getattr(kernel, name) for name in KernelSpec.__dataclass_fields__ if name not in ("name", "nodes"))


def readings(
    networks: Sequence[Sequence[Measurement]],
    estimates: Sequence[LatencyEstimate],
    name_of: Callable[[Measurement], str],
    family_of: Callable[[Measurement], str],
    level_of: Callable[[Measurement], float],
) -> tuple[Reading, ...]:
    """Build one reading per network, fastest first; none without estimates.

    ``level_of`` converts a measurement to the device's median speed.
    """
    if not estimates:
        return ()
    found = [
        Reading(
            name=name_of(items[0]),
            family=family_of(items[0]),
            predicted_ms=estimate.latency_ms,
            low_ms=estimate.low_ms,
            high_ms=estimate.high_ms,
            measured_ms=median(map(level_of, items)),
            raw_ms=median(item.latency_ms_p50 for item in items),
            measurements=len(items),
            noisy=all(item.noisy for item in items),
            coverage=estimate.coverage,
            unknown_kinds=estimate.unknown_kinds,
        )
        for items, estimate in zip(networks, estimates, strict=True)
    ]
    return tuple(sorted(found, key=lambda reading: reading.measured_ms or 0.0))


def median_speed(model: LatencyModel) -> Callable[[Measurement], float]:
    """Convert a measurement's median in ms to the device's median speed while the model was calibrated, which predictions refer to."""
    base_ms = model.quality.reference_ms if model.calibrated else 0.0
    return lambda item: item.latency_ms_p50 * speed_factor(item, base_ms, model.quality.speed_exponent)


def group_errors(name: str, group: Sequence[Reading]) -> GroupErrors | None:
    """Compute the errors of the measured networks of a group; None without any."""
    errors = [reading.error_rel for reading in group if reading.error_rel is not None]
    if not errors:
        return None
    sizes = [abs(error) for error in errors]
    return GroupErrors(
        name=name,
        networks=len(errors),
        median_error_rel=median(sizes),
        worst_error_rel=max(sizes),
        bias_rel=median(errors),
        within10=sum(size <= 0.1 for size in sizes) / len(sizes),
        inside=sum(reading.inside is True for reading in group),
    )


def errors_by_family(parity: Sequence[Reading]) -> tuple[GroupErrors, ...]:
    """Compute errors by family, worst first; networks of unknown family form the last group."""
    families: dict[str, list[Reading]] = defaultdict(list)
    for reading in parity:
        families[reading.family or NO_FAMILY].append(reading)
    groups = [group_errors(name, group) for name, group in families.items()]
    known = [group for group in groups if group is not None]
    return tuple(sorted(known, key=lambda group: (group.name == NO_FAMILY, -group.median_error_rel)))


def coverage_bands(parity: Sequence[Reading]) -> tuple[CoverageBand, ...]:
    """Compute the coverage of the intervals of all networks, and of each third by measured latency."""
    known = [reading for reading in parity if reading.inside is not None]
    if not known:
        return ()
    parts = [("all", known)]
    if len(known) >= len(_FAST_TO_SLOW) * 3:
        cuts = [round(len(known) * step / 3) for step in range(4)]
        thirds = (known[start:end] for start, end in pairwise(cuts))
        parts += list(zip(_FAST_TO_SLOW, thirds, strict=True))
    return tuple(_band(name, part) for name, part in parts)


def _band(name: str, part: Sequence[Reading]) -> CoverageBand:
    inside = sum(reading.inside is True for reading in part)
    low, high = wilson(inside, len(part))
    width = median(reading.high_ms / reading.predicted_ms - 1.0 for reading in part)
    return CoverageBand(name, len(part), inside, low, high, width)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Compute the 95 % Wilson bounds of a share (Wilson 1927, https://doi.org/10.2307/2276774); (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    share, square = successes / trials, _WILSON_Z**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    reach = _WILSON_Z / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)
