"""Conformal prediction intervals, wider for networks unlike the measured ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_NUMBERS = ("near", "far", "near_distance", "far_distance", "end_distance")
BEYOND = 2.0
"""Limit on the growth of the margin beyond the calibrated distances, in far margins."""


@dataclass(frozen=True)
class Margins:
    """Half width of the interval in predicted standard deviations, by the distance to what was measured.

    Attributes:
        near: margin up to ``near_distance``: quantile of leave-one-out errors.
        far: margin from ``far_distance`` to ``end_distance``: quantile of leave-family-out errors.
        near_distance: median distance of networks left out alone.
        far_distance, end_distance: 25th and 90th percentile of the distances of networks whose family was left out; 0 for
            a single family.
        by: meaning of a distance: ``networks`` to the nearest measured network, ``kernels`` the share of the time in kernels unlike
            all measured ones.
    """

    near: float
    far: float
    near_distance: float = 0.0
    far_distance: float = 0.0
    end_distance: float = 0.0
    by: str = "networks"

    def at(self, distance: Array) -> Array:
        """Compute margins (n,): linear from near to far, then constant, then proportional to the distance; never decreasing."""
        if not self.end_distance:
            return np.full(len(distance), self.near)
        way = max(self.far_distance - self.near_distance, 1e-9)
        share = np.clip((distance - self.near_distance) / way, 0.0, 1.0)
        grown = np.clip(distance / self.end_distance, 1.0, BEYOND)
        return np.asarray((self.near + (self.far - self.near) * share) * grown, dtype=np.float64)

    def relative(self, distance: Array) -> Array:
        """Express distances (n,) in units of a left-out family's; 0 for a single family."""
        return distance / self.far_distance if self.far_distance else np.zeros(len(distance))

    def to_dict(self) -> dict[str, Any]:
        value = {name: float(getattr(self, name)) for name in _NUMBERS}
        return value if self.by == "networks" else {**value, "by": self.by}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Margins:
        return cls(**{name: float(value[name]) for name in _NUMBERS}, by=str(value.get("by", "networks")))


_ARRAYS = ("near", "near_distance", "far", "far_distance")
_GROUPS = ("near_group", "far_group")
MIN_GROUP = 20
"""Least number of scores of a group for a margin of its own."""


@dataclass(frozen=True)
class Scores:
    """Cross-validation scores, stored with the model so that later measurements can be added.

    Attributes:
        near, near_distance: leave-one-out |error| / predicted standard deviation of every raw measurement, and the distance
            of its network to the others.
        far, far_distance: the same with the whole family left out; empty for a single family.
        families: number of families left out in turn.
        near_group, far_group: index of the group of each score's network; empty for one group.
    """

    near: Array
    near_distance: Array
    far: Array
    far_distance: Array
    families: int = 0
    near_group: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    far_group: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.intp))

    def of_group(self, group: int) -> Scores | None:
        """Select the scores of a group; None with fewer than ``MIN_GROUP``, or none of a family left out."""
        if len(self.near_group) != len(self.near) or len(self.far_group) != len(self.far):
            return None  # of an older release
        near, far = self.near_group == group, self.far_group == group
        if near.sum() < MIN_GROUP or (len(self.far) and not far.any()):
            return None
        return Scores(
            self.near[near], self.near_distance[near], self.far[far], self.far_distance[far], min(self.families, 1)
        )

    def group_margins(self, level: float, names: Sequence[str]) -> dict[str, Margins]:
        """Compute the margins of each group that has scores enough, by its name.

        A group's margins hold ``level`` of its own errors, where the margins of all hold too few of a group that is harder to
        predict (Mondrian conformal prediction).
        """
        parts = {name: self.of_group(index) for index, name in enumerate(names)}
        return {name: part.margins(level) for name, part in parts.items() if part is not None}

    def margins(self, level: float) -> Margins:
        """Compute the conformal quantiles of the scores at ``level``."""
        near = conformal_quantile(self.near, level)
        middle = float(np.median(self.near_distance))
        if not len(self.far):
            return Margins(near, near, middle)
        # Errors within a family are correlated: its effective sample size lies between one and its number of networks.
        counted = math.sqrt(len(self.far) * max(self.families, 1))
        far = float(np.quantile(self.far, min(1.0, level * (1.0 + 1.0 / counted))))
        begin, end = (float(value) for value in np.quantile(self.far_distance, [0.25, 0.9]))
        return Margins(near, max(near, far), middle, max(middle, begin), max(middle, end, 1e-6))

    def with_near(self, scores: Array, distances: Array, groups: Indices) -> Scores:
        """Extend by the scores of networks that were predicted before they were measured."""
        grouped = len(self.near_group) == len(self.near)
        return replace(
            self,
            near=np.concatenate([self.near, scores]),
            near_distance=np.concatenate([self.near_distance, distances]),
            near_group=np.concatenate([self.near_group, groups]) if grouped else self.near_group,
        )

    def to_dict(self) -> dict[str, Any]:
        names = (*_ARRAYS, *_GROUPS) if len(self.near_group) else _ARRAYS
        arrays = {name: getattr(self, name).tolist() for name in names}
        return {**arrays, "families": self.families}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Scores:
        near, near_distance, far, far_distance = (np.array(value[name], dtype=np.float64) for name in _ARRAYS)
        groups = (np.array(value.get(name, ()), dtype=np.intp) for name in _GROUPS)
        return cls(near, near_distance, far, far_distance, int(value["families"]), *groups)


def conformal_quantile(scores: Array, level: float) -> float:
    """Compute the (n + 1)-corrected quantile of the scores; with too few for the level, their maximum increased by 1 / n."""
    rank = math.ceil((len(scores) + 1) * level)
    ordered = np.sort(scores)
    if rank <= len(scores):
        return float(ordered[rank - 1])
    return float(ordered[-1] * (1.0 + 1.0 / len(scores)))
