"""Costs of candidates that are known before training: which objectives they are, their budgets, a cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from trial_runner.search.known_cost.encoding import SpaceEncoding

Array = NDArray[np.float64]
Params = Mapping[str, Any]

KEPT = 200_000
_FIRST = 4


@dataclass(frozen=True)
class KnownCosts:
    """Costs that a function gives before a trial runs.

    Attributes:
        predict: called with the params of n candidates; returns (n, c) costs, none negative. A row with NaN is a candidate that
            must not be proposed.
        objectives: index of a study's objective to the column of ``predict`` that is its value.
        budgets: column to the largest acceptable cost.
        deviations: column to the column of its standard deviation, where a cost is a prediction with an error. The gain in that
            objective is an expectation then.
        restate: whether the present prediction replaces the value that a finished trial was told for an objective: values of a study may
            be predictions of an older model.
        depends_on: returns a key of a candidate's params; candidates with equal keys have equal costs. By default all params count.
        most_new: keys whose costs are predicted at one proposal, four times as many at the first; candidates beyond that are left out.
            None for no limit.
    """

    predict: Callable[[Sequence[Params]], npt.ArrayLike]
    objectives: Mapping[int, int]
    budgets: Mapping[int, float] = field(default_factory=dict)
    deviations: Mapping[int, int] = field(default_factory=dict)
    restate: bool = False
    depends_on: Callable[[Params], Hashable] | None = None
    most_new: int | None = None

    def informative(self, costs: Array) -> Array:
        """Return the columns of costs (n, c) without those of standard deviations."""
        return np.delete(costs, sorted(set(self.deviations.values())), axis=1) if self.deviations else costs


class CostCache:
    """Costs by candidate: each is predicted once, those of a batch in one call."""

    def __init__(self, costs: KnownCosts) -> None:
        self._costs = costs
        self._rows: dict[Hashable, Array] = {}
        self._keys: dict[Hashable, Hashable] = {}

    def within_limit(self, encoding: SpaceEncoding, candidates: Sequence[Params]) -> list[Params]:
        """Return the candidates whose costs are known, and the first others up to the limit."""
        most = self._costs.most_new
        if most is None:
            return list(candidates)
        most *= 1 if self._rows else _FIRST
        new: set[Hashable] = set()
        kept = []
        for params in candidates:
            key = self._key(encoding, params)
            if key in self._rows or key in new or len(new) < most:
                kept.append(params)
                if key not in self._rows:
                    new.add(key)
        return kept

    def __call__(self, encoding: SpaceEncoding, candidates: Sequence[Params]) -> Array:
        """(n, c) costs of the candidates.

        Raises:
            ValueError: the function gave another number of rows than candidates.
        """
        keys = [self._key(encoding, params) for params in candidates]
        missing = {key: params for key, params in zip(keys, candidates, strict=True) if key not in self._rows}
        if missing:
            asked = [encoding.active(params) for params in missing.values()]
            found = np.asarray(self._costs.predict(asked), dtype=np.float64)
            if found.ndim != 2 or len(found) != len(asked):
                raise ValueError(f"costs of {len(asked)} candidates must be ({len(asked)}, c), got shape {found.shape}")
            self._rows.update(zip(missing, found, strict=True))
        result = np.stack([self._rows[key] for key in keys])
        while len(self._rows) > KEPT:
            del self._rows[next(iter(self._rows))]
        return result

    def _key(self, encoding: SpaceEncoding, params: Params) -> Hashable:
        own = encoding.key(params)
        depends_on = self._costs.depends_on
        if depends_on is None:
            return own
        if own not in self._keys:
            if len(self._keys) >= KEPT:
                self._keys.clear()
            self._keys[own] = depends_on(encoding.active(params))
        return self._keys[own]
