"""A prior that was taught by kernels timed inside networks: a roofline, and by how much each kernel departs from it.

A kernel timed alone says little about its time inside a network: caches, layouts and neighbours differ. Timed inside,
with its shape, its alignment, its traffic and its neighbours as columns, boosted trees learn the logarithm of its time
over the roofline's. Far from what was timed the trees stay flat and the roofline carries on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import INSIDE, KernelTable, context_columns
from hw_latency_model.model.roofline import Roofline
from hw_latency_model.model.trees import BoostedTrees
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]

LIMIT = 2.0
"""Largest departure from the roofline that is believed, as a logarithm."""
_SHRINK = 5.0
MIN_SHARE = 1e-5


@dataclass(frozen=True)
class LearnedPrior:
    """A roofline with a learned factor per kernel.

    Attributes:
        base: the roofline.
        trees: log factor from the columns of ``_columns``, the last of which is younger than some models.
        encodings: for the kernel's own kind, the kind before and the kind after: kind to its mean log factor.
    """

    prior_type: ClassVar[str] = "learned"

    base: Roofline
    trees: BoostedTrees
    encodings: tuple[Mapping[str, float], Mapping[str, float], Mapping[str, float]]

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.base.kinds

    @classmethod
    def fit(cls, base: Roofline, table: KernelTable, kernel_ms: Array, weights: Array) -> LearnedPrior:
        """Learn from kernels timed inside networks.

        Args:
            base: fitted on the same or other networks.
            table: kernels of the networks.
            kernel_ms: (n,) time of each inside its network; 0 where it was not seen.
            weights: (n,) how much each counts; their share of their network's time, to some power.
        """
        expected = base.table_ms(table)
        seen = (kernel_ms > 0.0) & (expected > 0.0)
        target = np.clip(np.log(np.maximum(kernel_ms, 1e-12)[seen] / expected[seen]), -LIMIT, LIMIT)
        weights = weights[seen]
        chosen = np.flatnonzero(seen)
        groups = [[table.names[index] for index in which[chosen]] for which in (table.kind, table.before, table.after)]
        mean = float(np.average(target, weights=weights))
        own = _encoding(groups[0], target, weights, mean)
        rest = target - np.array([own[kind] for kind in groups[0]])
        encodings = (own, _encoding(groups[1], rest, weights, 0.0), _encoding(groups[2], rest, weights, 0.0))
        rows = _columns(table, _coded(table, encodings))[seen]
        if np.all(rows[:, -1] == 1.0):  # so trees that never saw a dilation do not ask about it
            rows = rows[:, :-1]
        return cls(base, BoostedTrees.fit(rows, target, weights), encodings)

    def kernel_ms(self, kernels: Sequence[KernelSpec]) -> Array:
        return self.table_ms(KernelTable.of(kernels)) if kernels else np.zeros(0)

    def table_ms(self, table: KernelTable) -> Array:
        """(n,) milliseconds of every kernel; a kind that was never timed keeps the roofline's."""
        coded = _coded(table, self.encodings)
        factor = np.minimum(np.maximum(self.trees.predict(_columns(table, coded)), -LIMIT), LIMIT)
        known = coded[table.kind, -1]
        return np.asarray(self.base.table_ms(table) * np.exp(known * factor), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        return {
            "base": self.base.to_dict(),
            "trees": self.trees.to_dict(),
            "encodings": [dict(item) for item in self.encodings],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> LearnedPrior:
        own, before, after = ({str(k): float(v) for k, v in item.items()} for item in value["encodings"])
        return cls(Roofline.from_dict(value["base"]), BoostedTrees.from_dict(value["trees"]), (own, before, after))


def _encoding(kinds: Sequence[str], target: Array, weights: Array, towards: float) -> dict[str, float]:
    """Kind to its mean target, pulled towards ``towards`` where it was seen rarely."""
    names = {kind: index for index, kind in enumerate(dict.fromkeys(kinds))}
    place = np.array([names[kind] for kind in kinds], dtype=np.intp)
    unit = weights / weights.mean()
    sums = np.bincount(place, weights=unit * (target - towards), minlength=len(names))
    counts = np.bincount(place, weights=unit, minlength=len(names))
    return dict(zip(names, (towards + sums / (counts + _SHRINK)).tolist(), strict=True))


def _coded(table: KernelTable, encodings: Sequence[Mapping[str, float]]) -> Array:
    """(names, 4): what each name stands for as a kernel's own kind, the one before, the one after; whether it was timed."""
    own, before, after = encodings
    codes = [(own.get(name, 0.0), before.get(name, 0.0), after.get(name, 0.0), name in own) for name in table.names]
    return np.array(codes, dtype=np.float64)


def _columns(table: KernelTable, coded: Array) -> Array:
    """(n, 23): ``context_columns``, the encoded kinds of the kernel and its neighbours, and its share of taps inside."""
    context = table.once("context", context_columns)
    rows = np.empty((len(table), context.shape[1] + 4), order="F")
    rows[:, :-4] = context
    for index, which in enumerate((table.kind, table.before, table.after)):
        rows[:, index - 4] = coded[which, index]
    rows[:, -1] = table.facts[:, INSIDE]
    return rows
