"""The networks that a study may start with instead of its sampler's random ones: spread over the latency budget."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from search_spaces import Candidate, SearchSpace
from search_spaces.dimensions import LogUniform
from trial_runner.constraints.latency import LatencyGate

DRAWN_PER_PROPOSAL = 8
"""Enough to choose from in each part of the budget; tracing more families than that takes seconds at every start."""


def spread_over_budget(space: SearchSpace, gate: LatencyGate, count: int, *, seed: int) -> list[Candidate]:
    """Up to ``count`` candidates within the latency budget, the fastest first.

    The latencies of random candidates within the budget are cut into ``count`` parts of equal ratio. Each part gives the
    candidate with the largest product of MACs and input pixels, of a family that no faster part gave where there is one. At
    equal latency, arithmetic is a good guess of accuracy before anything is trained (Krishnakumar et al., arXiv
    2210.03230, find no zero-cost proxy that beats it throughout), and no width brings back what the image lost before the
    network saw it. Precisions take turns where several are offered: arithmetic says nothing between them. Ranges that only
    shape the training are set to the middle third of their logarithm.
    """
    rng = np.random.default_rng(seed)
    pool: dict[tuple[str, str | None], tuple[float, float, Candidate]] = {}  # latency, promise, candidate
    for _ in range(DRAWN_PER_PROPOSAL * count):
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
    """The first of the dimensions that shape the network: of every space the one that matters most."""
    return str(candidate.params[space.architecture_dimensions[0]])


def _middle_of_ranges(space: SearchSpace, candidate: Candidate, rng: np.random.Generator) -> Candidate:
    params = dict(candidate.params)
    for dimension in space.dimensions:
        if isinstance(dimension, LogUniform) and dimension.name not in space.architecture_dimensions:
            low, high = math.log(dimension.low), math.log(dimension.high)
            drawn = math.exp(low + (high - low) * rng.uniform(1 / 3, 2 / 3))
            params[dimension.name] = min(max(drawn, dimension.low), dimension.high)
    return space.candidate(params)
