"""Hypervolume in any number of objectives. Every column is minimised; NaN means "unknown"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def hypervolume(points: npt.ArrayLike, reference: Sequence[float]) -> float:
    """Return the volume dominated by ``points`` and bounded by ``reference``, every column minimised.

    WFG algorithm (While, Bradstreet and Barone, IEEE TEC 16(1), 2012): a sum of exclusive hypervolumes; sorted by the last column,
    each reduces to a problem with one dimension less.

    Args:
        points: (n, m). Points with NaN, dominated points, duplicates, and points not strictly better than the reference in every column
            contribute nothing.
        reference: reference point, m >= 2 finite numbers.

    Returns:
        The volume in the product of the m units; 0.0 without points.

    Raises:
        ValueError: the reference is not at least two finite numbers.
    """
    corner = np.asarray(reference, dtype=np.float64)
    if corner.ndim != 1 or len(corner) < 2 or not np.isfinite(corner).all():
        raise ValueError(f"the reference point must be at least two finite numbers, got {reference}")
    return _volume(_inside(points, corner), corner)


def hypervolume_2d(points: npt.ArrayLike, reference: Sequence[float]) -> float:
    """Return the hypervolume of two columns, an area.

    Raises:
        ValueError: the reference is not two finite numbers.
    """
    if len(reference) != 2 or not np.isfinite(reference).all():
        raise ValueError(f"the reference point must be two finite numbers, got {reference}")
    return hypervolume(points, reference)


def exclusive_hypervolume(point: npt.ArrayLike, others: npt.ArrayLike, reference: Sequence[float]) -> float:
    """Return the hypervolume that ``point`` (m,) adds to ``others`` (n, m): 0.0 for a dominated point, never negative."""
    corner = np.asarray(reference, dtype=np.float64)
    mine = _inside(point, corner)
    if not len(mine):
        return 0.0
    limited = np.maximum(_inside(others, corner), mine)
    return max(0.0, float(np.prod(corner - mine[0])) - _volume(limited, corner))


def _inside(points: npt.ArrayLike, corner: FloatArray) -> FloatArray:
    array = np.asarray(points, dtype=np.float64).reshape(-1, len(corner))
    return array[(array < corner).all(axis=1)]


def _volume(points: FloatArray, corner: FloatArray) -> float:
    points = non_dominated(points)
    if not len(points):
        return 0.0
    if len(corner) == 2:
        # Sorted by the first column, the second decreases along a front: the area is a sum of boxes.
        above = np.concatenate([corner[1:], points[:-1, 1]])
        return float((corner[0] - points[:, 0]) @ (above - points[:, 1]))
    # Descending by the last column: the later points, limited to this one, share its value there.
    points = points[np.argsort(-points[:, -1], kind="stable")]
    rest, total = corner[:-1], 0.0
    for index, point in enumerate(points):
        limited = np.maximum(points[index + 1 :, :-1], point[:-1])
        base = float(np.prod(rest - point[:-1])) - _volume(limited, rest)
        total += base * float(corner[-1] - point[-1])
    return total


def non_dominated(points: FloatArray) -> FloatArray:
    """Return the distinct non-dominated points in lexicographic order."""
    points = np.unique(points, axis=0)
    kept: list[int] = []
    for index, point in enumerate(points):
        # A dominating point precedes those it dominates in lexicographic order.
        if not (points[kept] <= point).all(axis=1).any():
            kept.append(index)
    return points[kept]
