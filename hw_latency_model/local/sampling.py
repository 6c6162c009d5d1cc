"""Order of architectures for measurement: farthest-point sampling, so that every prefix covers the space."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from search_spaces import Candidate, SearchSpace

POOL = 2000


def covering_order(space: SearchSpace, count: int, *, seed: int) -> list[Candidate]:
    """Sample up to ``count`` candidates of distinct architectures, the default one first; every prefix covers the space.

    Farthest-point sampling begins with the corners of the space (every family and decoder, smallest and largest), so that
    later predictions are interpolations.
    """
    rng = np.random.default_rng(seed)
    pool: dict[str, Candidate] = {}
    for item in (space.default(), *(space.sample(rng) for _ in range(POOL))):
        pool.setdefault(space.architecture_id(item), item)
    candidates = list(pool.values())
    points = _encode(space, candidates)
    nearest = _squared(points, points[0])
    order = [0]
    while len(order) < min(count, len(candidates)):
        chosen = int(np.argmax(nearest))
        order.append(chosen)
        nearest = np.minimum(nearest, _squared(points, points[chosen]))
    return [candidates[index] for index in order]


def _encode(space: SearchSpace, candidates: list[Candidate]) -> NDArray[np.float64]:
    """Encode candidates, (n, d): one column per value of a categorical choice, one from 0 to 1 per number, and the log image area."""
    columns: list[NDArray[np.float64]] = []
    areas = np.array([math.log(math.prod(space.input_hw(item))) for item in candidates])
    resolutions = {f"{h}x{w}" for h, w in map(space.input_hw, candidates)}
    columns.append(_unit(areas))
    for name in space.architecture_dimensions:
        values = [item.params[name] for item in candidates]
        if all(str(value) in resolutions for value in values):
            continue
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            columns.append(_unit(np.array(values, dtype=np.float64)))
        else:
            # Two distinct categories are as far apart as the ends of a number's range.
            columns += [
                np.array([value == choice for value in values], dtype=np.float64) / math.sqrt(2)
                for choice in dict.fromkeys(values)
            ]
    return np.stack(columns, axis=1)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    span = float(values.max() - values.min())
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def _squared(points: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(((points - point) ** 2).sum(axis=1), dtype=np.float64)
