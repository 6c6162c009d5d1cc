"""Initial design: first candidates stratified over the latency budget, instead of random ones from the sampler."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from search_spaces import Candidate, SearchSpace
from search_spaces.dimensions import LogUniform
from trial_runner.constraints.latency import LatencyConstraint

SAMPLES_PER_CANDIDATE = 8
"""Enough candidates for each stratum; tracing more families takes seconds at every launch."""


def stratified_by_latency(space: SearchSpace, gate: LatencyConstraint, count: int, *, seed: int) -> list[Candidate]:
    """Return up to ``count`` candidates within the latency budget, the fastest first.

    The latencies of random candidates within the budget are divided into ``count`` strata of equal ratio. Each stratum
    contributes the candidate with the largest product of MACs and input pixels, preferably of a family that no faster stratum
    contributed. At equal latency MACs are a good proxy of accuracy before training (Krishnakumar et al., arXiv 2210.03230, find
    no zero-cost proxy that is better throughout), and resolution lost at the input cannot be recovered by width. Precisions take
    turns, since MACs are not comparable between them. Ranges of the training are drawn from the middle third of their logarithm.
    """
    rng = np.random.default_rng(seed)
    pool: dict[tuple[str, str | None], tuple[float, float, Candidate]] = {}  # latency, promise, candidate
    for _ in range(SAMPLES_PER_CANDIDATE * count):
        candidate = space.sample(rng)
        latency_ms = gate.estimate(candidate).latency_ms
        if latency_ms <= gate.budget_ms:
            promise = gate.macs(candidate) * math.prod(space.input_hw(candidate))
            pool[space.architecture_id(candidate), candidate.precision] = (latency_ms, promise, candidate)
    if not pool:
        return []
    fastest_ms = min(latency_ms for latency_ms, _, _ in pool.values())
    slowest_ms = max(latency_ms for latency_ms, _, _ in pool.values())
    ratio = math.log(slowest_ms / fastest_ms) / count
    parts: list[list[tuple[float, float, Candidate]]] = [[] for _ in range(count)]
    for item in pool.values():
        index = int(math.log(item[0] / fastest_ms) / ratio) if ratio > 0 else 0
        parts[min(index, count - 1)].append(item)
    chosen: list[Candidate] = []
    families: set[str] = set()
    for part in filter(None, parts):
        taken = Counter(candidate.precision for candidate in chosen)
        turn = min((item[2].precision for item in part), key=lambda precision: (taken[precision], precision or ""))
        part = [item for item in part if item[2].precision == turn]
        fresh = [item for item in part if _family(space, item[2]) not in families] or part
        best = max(fresh, key=lambda item: item[1])[2]
        families.add(_family(space, best))
        chosen.append(_middle_of_ranges(space, best, rng))
    return chosen


def _family(space: SearchSpace, candidate: Candidate) -> str:
    """Return the value of the first architecture dimension, the most important one of every space."""
    return str(candidate.params[space.architecture_dimensions[0]])


def _middle_of_ranges(space: SearchSpace, candidate: Candidate, rng: np.random.Generator) -> Candidate:
    params = dict(candidate.params)
    for dimension in space.dimensions:
        if isinstance(dimension, LogUniform) and dimension.name not in space.architecture_dimensions:
            low, high = math.log(dimension.low), math.log(dimension.high)
            drawn = math.exp(low + (high - low) * rng.uniform(1 / 3, 2 / 3))
            params[dimension.name] = min(max(drawn, dimension.low), dimension.high)
    return space.candidate(params)
