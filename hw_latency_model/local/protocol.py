"""Timing protocol: warm-up, runs interleaved with a fixed reference network, repeats when the reference drifts.

The protocol only knows the two callables that a device passes. On a shared machine the operating system preempts runs. With
one thread, CPU time is therefore used instead of wall time, and the share of time waited is reported separately.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import numpy as np

KEPT_SAMPLES = 200


@dataclass(frozen=True)
class ProtocolSettings:
    """Durations in seconds, counts in runs.

    Attributes:
        min_runs, max_runs, max_s: at least ``min_runs``, then until ``max_runs`` or ``max_s``, whichever is first.
        warmup_runs, warmup_max_s: warm up until two rounds of this many runs have medians within 3 %, or the time limit.
        round_s: duration of a round between two rounds of the reference.
        reference_runs: runs per round of the reference.
        cap_s: time limit for networks too slow for ``min_runs``, with at least three rounds.
        max_drift_rel: drift of the reference, first half to second, above which a measurement is repeated.
        max_repeats: limit on repeats, after which the measurement is marked noisy.
    """

    min_runs: int = 20
    max_runs: int = 250
    max_s: float = 0.6
    warmup_runs: int = 3
    warmup_max_s: float = 0.3
    round_s: float = 0.02
    reference_runs: int = 3
    cap_s: float = 5.0
    max_drift_rel: float = 0.05
    max_repeats: int = 2


@dataclass(frozen=True)
class Timing:
    """Result of the protocol; see ``Measurement`` for the fields. Times in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int
    noise_rel: float
    reference_ms: float
    drift_rel: float
    waited_rel: float
    noisy: bool
    repeats: int
    samples_ms: tuple[float, ...] = ()


def time_network(
    run: Callable[[], object], reference: Callable[[], object], settings: ProtocolSettings, *, one_thread: bool
) -> Timing:
    """Time ``run`` by the protocol.

    Args:
        run: runs the network once, blocking.
        reference: runs the fixed reference network once.
        settings: settings of the protocol.
        one_thread: the network runs in the calling thread only, whose CPU clock is then used.
    """
    kept: Timing | None = None
    for repeat in range(settings.max_repeats + 1):
        timing = _time_once(run, reference, settings, one_thread, repeat)
        if kept is None or timing.drift_rel < kept.drift_rel:
            kept = timing
        if not timing.noisy:
            return timing
    assert kept is not None
    return kept


def _time_once(
    run: Callable[[], object],
    reference: Callable[[], object],
    settings: ProtocolSettings,
    one_thread: bool,
    repeat: int,
) -> Timing:
    typical_ms = _warm_up(run, settings, one_thread)
    per_round = min(20, max(1, round(settings.round_s * 1e3 / max(typical_ms, 1e-3))))
    reference()
    times: list[float] = []
    ratios: list[float] = []
    waited = 0.0
    begun = time.perf_counter()
    references = [_samples(reference, settings.reference_runs, one_thread)[0]]
    while _goes_on(len(times), len(ratios), time.perf_counter() - begun, settings):
        more, more_waited = _samples(run, per_round, one_thread)
        times += more
        waited += more_waited
        reference()
        references.append(_samples(reference, settings.reference_runs, one_thread)[0])
        ratios.append(statistics.median(more) / statistics.median([*references[-2], *references[-1]]))
    total = time.perf_counter() - begun
    half = (len(references) + 1) // 2
    before, after = (statistics.median(chain.from_iterable(part)) for part in (references[:half], references[-half:]))
    drift = abs(after - before) / min(after, before)
    low, middle, high = (float(value) for value in np.percentile(ratios, [25, 50, 75]))
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    return Timing(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        runs=len(times),
        noise_rel=max((high - low) / 2 / middle, drift),
        reference_ms=statistics.median(chain.from_iterable(references)),
        drift_rel=drift,
        waited_rel=min(1.0, waited / total),
        noisy=drift > settings.max_drift_rel,
        repeats=repeat,
        samples_ms=tuple(round(value, 6) for value in _thinned(times)),
    )


def _thinned(times: list[float]) -> list[float]:
    """Subsample to at most ``KEPT_SAMPLES`` evenly spaced values, in order."""
    step = -(-len(times) // KEPT_SAMPLES)
    return times[::step]


def _goes_on(runs: int, rounds: int, elapsed_s: float, settings: ProtocolSettings) -> bool:
    if runs < settings.min_runs:
        return elapsed_s < settings.cap_s or rounds < 3
    return runs < settings.max_runs and elapsed_s < settings.max_s


def _warm_up(run: Callable[[], object], settings: ProtocolSettings, one_thread: bool) -> float:
    """Run until the time is stable; return the last median in ms."""
    start = time.perf_counter()
    last = float("inf")
    while True:
        now = statistics.median(_samples(run, settings.warmup_runs, one_thread)[0])
        if abs(now - last) <= 0.03 * now or time.perf_counter() - start > settings.warmup_max_s:
            return now
        last = now


def _samples(run: Callable[[], object], runs: int, one_thread: bool) -> tuple[list[float], float]:
    """Time runs: milliseconds of each, and the seconds during which other processes held the core."""
    times = []
    waited = 0.0
    for _ in range(runs):
        core, wall = time.thread_time(), time.perf_counter()
        run()
        wall, core = time.perf_counter() - wall, time.thread_time() - core
        if one_thread and wall > 1.01 * core:
            waited += wall - core
            wall = core
        times.append(wall * 1e3)
    return times, waited
