"""Drift of the device: the reference network over time, and networks measured more than once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from hw_latency_model.report.parts import Drift, ReferenceReading, RepeatedNetwork
from hw_latency_model.types import Measurement


def drift_of(
    measurements: Sequence[Measurement],
    networks: Sequence[Sequence[Measurement]],
    name_of: Callable[[Measurement], str],
) -> Drift | None:
    """Compute the drift; None if no measurement has a reference."""
    ordered = sorted((item for item in measurements if item.reference_ms > 0.0), key=lambda item: item.started_at)
    if not ordered:
        return None
    times_ms = np.array([item.reference_ms for item in ordered])
    low, middle, high = np.percentile(times_ms, [10, 50, 90])
    third = max(1, len(ordered) // 3)
    repeated = [_repeated(items, name_of) for items in networks if len(items) > 1]
    changes = [abs(item.change_rel) for item in repeated]
    return Drift(
        references=tuple(ReferenceReading(item.started_at, item.reference_ms, item.noisy) for item in ordered),
        reference_ms=float(middle),
        spread_rel=float((high - low) / middle),
        trend_rel=float(np.median(times_ms[-third:]) / np.median(times_ms[:third]) - 1.0),
        repeated=tuple(sorted(repeated, key=lambda item: -abs(item.change_rel))),
        median_repeat_rel=median(changes) if changes else None,
    )


def _repeated(items: Sequence[Measurement], name_of: Callable[[Measurement], str]) -> RepeatedNetwork:
    ordered = sorted(items, key=lambda item: item.started_at)
    first, last = ordered[0], ordered[-1]
    return RepeatedNetwork(
        name_of(first), len(ordered), first.started_at, last.started_at, first.latency_ms_p50, last.latency_ms_p50
    )
