"""Prior learned from kernel profiles: a roofline with a learned factor per kernel.

The time of a kernel in isolation differs from its time inside a network: caches, layouts and neighbours differ. From kernels
timed inside networks, boosted trees learn the log ratio to the roofline, with shape, alignment, traffic and neighbours as
columns. Far from the data the trees are constant and the roofline extrapolates.
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
"""Bound on the log ratio to the roofline."""
_SHRINK = 5.0
MIN_SHARE = 1e-5


@dataclass(frozen=True)
class LearnedPrior:
    """Roofline with a learned factor per kernel.

    Attributes:
        base: the roofline.
        trees: log factor from the columns of ``_columns``, the last of which is missing in older models.
        encodings: target encodings of the kernel's kind, the preceding and the following kind: mean log factor by kind.
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
        """Fit to kernels timed inside networks.

        Args:
            base: roofline fitted on the same or other networks.
            table: kernels of the networks.
            kernel_ms: (n,) time of each inside its network; 0 if not profiled.
            weights: (n,) weight of each: a power of its share of the network's time.
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
        if np.all(rows[:, -1] == 1.0):  # constant without dilation, so the trees do not split on it
            rows = rows[:, :-1]
        return cls(base, BoostedTrees.fit(rows, target, weights), encodings)

    def kernel_ms(self, kernels: Sequence[KernelSpec]) -> Array:
        return self.table_ms(KernelTable.of(kernels)) if kernels else np.zeros(0)

    def table_ms(self, table: KernelTable) -> Array:
        """Predict the milliseconds of every kernel, (n,); those of unmeasured kinds are the roofline's."""
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
    """Mean target by kind, shrunk towards ``towards`` for rare kinds."""
    names = {kind: index for index, kind in enumerate(dict.fromkeys(kinds))}
    place = np.array([names[kind] for kind in kinds], dtype=np.intp)
    unit = weights / weights.mean()
    sums = np.bincount(place, weights=unit * (target - towards), minlength=len(names))
    counts = np.bincount(place, weights=unit, minlength=len(names))
    return dict(zip(names, (towards + sums / (counts + _SHRINK)).tolist(), strict=True))


def _coded(table: KernelTable, encodings: Sequence[Mapping[str, float]]) -> Array:
    """Encode names, (names, 4): as a kernel's own kind, the preceding and the following kind; flag of measured kinds."""
    own, before, after = encodings
    codes = [(own.get(name, 0.0), before.get(name, 0.0), after.get(name, 0.0), name in own) for name in table.names]
    return np.array(codes, dtype=np.float64)


def _columns(table: KernelTable, coded: Array) -> Array:
    """Build columns (n, 23): ``context_columns``, encoded kinds of the kernel and its neighbours, share of taps inside the map."""
    context = table.once("context", context_columns)
    rows = np.empty((len(table), context.shape[1] + 4), order="F")
    rows[:, :-4] = context
    for index, which in enumerate((table.kind, table.before, table.after)):
        rows[:, index - 4] = coded[which, index]
    rows[:, -1] = table.facts[:, INSIDE]
    return rows
