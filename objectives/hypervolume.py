"""The volume that a front dominates, in any number of objectives. Every column is minimised; NaN means "unknown"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def hypervolume(points: npt.ArrayLike, reference: Sequence[float]) -> float:
    """Volume that is dominated by ``points`` and bounded by ``reference``, every column minimised.

    Exclusive volumes are added up, each over the points limited to what it dominates (WFG, While, Bradstreet and Barone,
    IEEE TEC 16(1), 2012); sorted by the last column, that column is a factor and the rest a problem of one dimension less.

    Args:
        points: (n, m). Those not strictly better than the reference in every column, and those with NaN, add nothing;
            dominated points and duplicates add nothing either.
        reference: the worst corner, m finite numbers, two at least.

    Returns:
        The volume in the product of the m units; 0.0 without points.
    """
    corner = np.asarray(reference, dtype=np.float64)
    if corner.ndim != 1 or len(corner) < 2 or not np.isfinite(corner).all():
        raise ValueError(f"the reference point must be at least two finite numbers, got {reference}")
    return _volume(_inside(points, corner), corner)


def hypervolume_2d(points: npt.ArrayLike, reference: Sequence[float]) -> float:
    """The same for two columns: an area.

    Raises:
        ValueError: the reference is not two finite numbers.
    """
    if len(reference) != 2 or not np.isfinite(reference).all():
        raise ValueError(f"the reference point must be two finite numbers, got {reference}")
    return hypervolume(points, reference)


def exclusive_hypervolume(point: npt.ArrayLike, others: npt.ArrayLike, reference: Sequence[float]) -> float:
    """What ``point`` (m,) adds to the hypervolume of ``others`` (n, m): never negative, 0.0 where it is dominated."""
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
    points = _front(points)
    if not len(points):
        return 0.0
    if len(corner) == 2:
        # Sorted by the first column, a front falls in the second: a staircase of boxes.
        above = np.concatenate([corner[1:], points[:-1, 1]])
        return float((corner[0] - points[:, 0]) @ (above - points[:, 1]))
    # Worst in the last column first: what the later ones are limited to has the same value there.
    points = points[np.argsort(-points[:, -1], kind="stable")]
    rest, total = corner[:-1], 0.0
    for index, point in enumerate(points):
        limited = np.maximum(points[index + 1 :, :-1], point[:-1])
        base = float(np.prod(rest - point[:-1])) - _volume(limited, rest)
        total += base * float(corner[-1] - point[-1])
    return total


def _front(points: FloatArray) -> FloatArray:
    """The distinct points that no other dominates, sorted by the first column, then the second, and so on."""
    points = np.unique(points, axis=0)
    kept: list[int] = []
    for index, point in enumerate(points):
        # Whatever dominates a point is sorted before it.
        if not (points[kept] <= point).all(axis=1).any():
            kept.append(index)
    return points[kept]
