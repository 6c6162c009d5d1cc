"""Exact expected hypervolume improvement where each objective is either known or has an independent normal posterior."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy.special import ndtr

from objectives.hypervolume import non_dominated

Array = NDArray[np.float64]

_MOST_BOXES = 6000
_CHUNK = 2_000_000


def boxes(points: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[Array, Array]:
    """Split what no point dominates, below the reference point, into disjoint boxes; every column is minimised.

    Args:
        points: (n, m).
        reference: (m,).

    Returns:
        Lower and upper corners (k, m); lower ones may be -inf.
    """
    corner = np.asarray(reference, dtype=np.float64)
    array = np.asarray(points, dtype=np.float64).reshape(-1, len(corner))
    array = array[(array < corner).all(axis=1)]
    lows, highs = _split(_thinned(non_dominated(array), corner), corner)
    return np.array(lows).reshape(-1, len(corner)), np.array(highs).reshape(-1, len(corner))


def _split(front: Array, corner: Array) -> tuple[list[list[float]], list[list[float]]]:
    """Slice along the last column: between two of its levels, the points below them leave the same region in the other columns."""
    if len(corner) == 1:
        best = float(front[:, 0].min()) if len(front) else float(corner[0])
        return [[-np.inf]], [[best]]
    lows: list[list[float]] = []
    highs: list[list[float]] = []
    levels = np.unique(front[:, -1])
    edges = [-np.inf, *levels.tolist(), float(corner[-1])]
    for low, high in itertools.pairwise(edges):
        below = front[front[:, -1] <= low, :-1]
        if len(below) and below.shape[1] > 1:
            below = non_dominated(below)
        inner_lows, inner_highs = _split(below, corner[:-1])
        lows += [[*inner, low] for inner in inner_lows]
        highs += [[*inner, high] for inner in inner_highs]
    return lows, highs


def _thinned(front: Array, corner: Array) -> Array:
    """Leave out the members nearest to others where more than two objectives would give too many boxes."""
    objectives = len(corner)
    most = len(front)
    while objectives > 2 and most ** (objectives - 1) > 2 * _MOST_BOXES:
        most -= 1
    if most >= len(front):
        return front
    scaled = (front - front.min(axis=0)) / np.maximum(np.ptp(front, axis=0), 1e-12)
    chosen = list(dict.fromkeys(scaled.argmin(axis=0).tolist()))
    apart = np.min([np.abs(scaled - scaled[index]).max(axis=1) for index in chosen], axis=0)
    while len(chosen) < most:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.abs(scaled - scaled[chosen[-1]]).max(axis=1))
    return front[chosen]


def expected_improvement(upper: Array, means: Array, deviations: Array) -> Array:
    """E[(u - Y)+] (n, k) for upper limits (k,) and normal Y with means and deviations (n,); a deviation of 0 is a known value."""
    gap = upper[None, :] - means[:, None]
    known = np.maximum(gap, 0.0)
    if not (deviations > 0).any():
        return known
    scale = np.where(deviations > 0, deviations, 1.0)[:, None]
    t = gap / scale
    density = np.exp(-0.5 * np.minimum(t * t, 1400.0)) / np.sqrt(2.0 * np.pi)
    uncertain = scale * (t * ndtr(t) + density)
    return np.asarray(np.where(deviations[:, None] > 0, np.maximum(uncertain, 0.0), known))


def expected_hypervolume_improvement(lows: Array, highs: Array, means: Array, deviations: Array) -> Array:
    """Return the expected hypervolume that each candidate adds.

    The gain of a value y is Σ_k Π_j (high_kj - max(low_kj, y_j))+ over the boxes k of the region that is not dominated, and
    (h - max(l, y))+ = (h - y)+ - (l - y)+. The objectives being independent, the expectation goes into the product: exact for
    any number of known and of uncertain objectives.

    Args:
        lows: (k, m) lower corners of `boxes`.
        highs: (k, m) upper corners.
        means: (n, m) posterior means, or known values.
        deviations: (n, m) posterior standard deviations; 0 for known values.

    Returns:
        (n,).
    """
    total = np.zeros(len(means))
    size = max(1, _CHUNK // max(1, len(lows)))
    for start in range(0, len(means), size):
        rows = slice(start, start + size)
        product = np.ones((len(means[rows]), len(lows)))
        for column in range(lows.shape[1]):
            levels, where = np.unique(np.concatenate([lows[:, column], highs[:, column]]), return_inverse=True)
            finite = np.where(np.isfinite(levels), levels, 0.0)
            gains = expected_improvement(finite, means[rows, column], deviations[rows, column])
            gains[:, ~np.isfinite(levels)] = 0.0
            product *= gains[:, where[len(lows) :]] - gains[:, where[: len(lows)]]
        total[rows] = np.maximum(product, 0.0).sum(axis=1)
    return total
