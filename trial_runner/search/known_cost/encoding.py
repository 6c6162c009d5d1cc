"""Optuna parameters as numbers: encoding, random draws, neighbours, and the conditions under which a parameter is active."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Array = NDArray[np.float64]
Params = Mapping[str, Any]
Key = tuple[Any, ...]

_FEW_VALUES = 12
"""Integers and stepped floats with at most so many values can decide whether another parameter is active."""
_STEPS_OF_NEIGHBOURS = (0.04, 0.15)
"""Standard deviations of the moves along a continuous parameter, as shares of its range."""


def grid_size(distribution: BaseDistribution) -> int | None:
    """Return the number of values of a distribution, None for a continuous one."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        return round((distribution.high - distribution.low) / distribution.step) + 1
    return 1 if distribution.single() else None


def to_unit(distribution: BaseDistribution, value: Any) -> float:
    """Return a value's number: the index of a choice, else its position in the range from 0 to 1, on the log scale where it has one."""
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.to_internal_repr(value))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if high <= low:
        return 0.5
    if distribution.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (float(value) - low) / (high - low)


def from_unit(distribution: BaseDistribution, position: float) -> Any:
    """Return the value of a numeric distribution that is nearest to a position in its range, clipped to the range."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    position = min(max(position, 0.0), 1.0)
    if distribution.log and high > low:
        value = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
    else:
        value = low + position * (high - low)
    if isinstance(distribution, IntDistribution):
        steps = round((value - distribution.low) / distribution.step)
        last = (distribution.high - distribution.low) // distribution.step
        return int(distribution.low + min(max(steps, 0), last) * distribution.step)
    if distribution.step is not None:
        last = round((high - low) / distribution.step)
        value = low + min(max(round((value - low) / distribution.step), 0), last) * distribution.step
    return float(min(max(value, low), high))


def draw(distribution: BaseDistribution, rng: np.random.Generator, count: int) -> list[Any]:
    """Draw values uniformly, on the log scale where the distribution has one."""
    size = grid_size(distribution)
    if size is None or (not isinstance(distribution, CategoricalDistribution) and _is_log(distribution)):
        return [from_unit(distribution, position) for position in rng.uniform(size=count).tolist()]
    values = grid_values(distribution)
    return [values[index] for index in rng.integers(size, size=count).tolist()]


def _is_log(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log


@dataclass(frozen=True)
class Condition:
    """The parent's values with which a parameter is active."""

    parent: str
    values: frozenset[Any]


@dataclass(frozen=True)
class SpaceEncoding:
    """The parameters of a search space in a fixed order, and when each is active.

    Attributes:
        distributions: by name.
        conditions: of the parameters that are not always active.
        optional: parameters that some trials lack for no reason that was found; they are drawn for every candidate.
    """

    distributions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.distributions)

    @property
    def categorical(self) -> NDArray[np.bool_]:
        """(d,): True for the parameters that are compared by equality."""
        kinds = [isinstance(item, CategoricalDistribution) for item in self.distributions.values()]
        return np.array(kinds, dtype=np.bool_)

    def active(self, params: Params) -> Params:
        """Return the active ones of a full assignment, and of this space only."""
        if not self.conditions and params.keys() == self.distributions.keys():
            return params
        kept = {name: params[name] for name in self.distributions if name in params}
        for _ in range(len(self.conditions)):
            off = [
                name
                for name, condition in self.conditions.items()
                if name in kept and kept.get(condition.parent) not in condition.values
            ]
            if not off:
                break
            for name in off:
                del kept[name]
        return kept

    def whole(self, params: Params) -> bool:
        """Return True if the values of all active params are there, each one of its distribution."""
        for name, distribution in self.distributions.items():
            condition = self.conditions.get(name)
            if name in params:
                if isinstance(distribution, CategoricalDistribution) and params[name] not in distribution.choices:
                    return False
            elif name in self.optional:
                continue
            elif condition is None or params.get(condition.parent) in condition.values:
                return False
        return True

    def complete(self, params: Params, rng: np.random.Generator) -> dict[str, Any]:
        """Return the params with random values for those that are missing."""
        return {
            name: params[name] if name in params else draw(distribution, rng, 1)[0]
            for name, distribution in self.distributions.items()
        }

    def key(self, params: Params) -> Key:
        """Return what is equal for two assignments with the same active values."""
        kept = self.active(params)
        return tuple(map(kept.get, self.distributions))

    def encode(self, rows: Sequence[Params]) -> Array:
        """(n, d): choices by index, numbers by position in their range; NaN for parameters that are inactive or missing."""
        active = [self.active(params) for params in rows]
        result = np.full((len(rows), len(self.distributions)), np.nan)
        for column, (name, distribution) in enumerate(self.distributions.items()):
            if isinstance(distribution, CategoricalDistribution) and None in distribution.choices:
                result[:, column] = [
                    to_unit(distribution, params[name]) if name in params else math.nan for params in active
                ]
                continue
            numbers: dict[Any, float] = {None: math.nan}
            values = [params.get(name) for params in active]
            for value in set(values) - {None}:
                numbers[value] = to_unit(distribution, value)
            result[:, column] = [numbers[value] for value in values]
        return result

    def random(self, rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
        """Draw full assignments."""
        columns = [draw(distribution, rng, count) for distribution in self.distributions.values()]
        return [dict(zip(self.distributions, values, strict=True)) for values in zip(*columns, strict=True)]

    def neighbours(self, params: Params, rng: np.random.Generator) -> list[dict[str, Any]]:
        """Return the assignments that differ in one active parameter: each other choice, the next grid values, small and large moves."""
        full = self.complete(params, rng)
        found = []
        for name in self.active(full):
            for value in _moves(self.distributions[name], full[name], rng):
                found.append({**full, name: value})
        return found


def _moves(distribution: BaseDistribution, value: Any, rng: np.random.Generator) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return [choice for choice in distribution.choices if choice != value]
    size = grid_size(distribution)
    if size is not None and size <= _FEW_VALUES:
        grid = [from_unit(distribution, to_unit(distribution, item)) for item in grid_values(distribution)]
        return [item for item in grid if item != value]
    here = to_unit(distribution, value)
    steps = [sign * abs(rng.normal(0.0, share)) for share in _STEPS_OF_NEIGHBOURS for sign in (-1.0, 1.0)]
    moved = [from_unit(distribution, here + step) for step in steps]
    return [item for item in dict.fromkeys(moved) if item != value]


def grid_values(distribution: BaseDistribution) -> list[Any]:
    """Return all values of a distribution that is not continuous, in their order."""
    size = grid_size(distribution)
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert size is not None
    step = 0 if distribution.step is None else distribution.step
    return [min(distribution.low + index * step, distribution.high) for index in range(size)]


def union_space(
    distributions_of_trials: Iterable[Mapping[str, BaseDistribution]],
) -> dict[str, BaseDistribution]:
    """Return the distributions that any of the trials' params had; params whose distribution changed are left out."""
    union: dict[str, BaseDistribution] = {}
    changed: set[str] = set()
    for distributions in distributions_of_trials:
        for name, distribution in distributions.items():
            if union.setdefault(name, distribution) != distribution:
                changed.add(name)
    return {name: item for name, item in sorted(union.items()) if name not in changed and not item.single()}


def infer_conditions(distributions: Mapping[str, BaseDistribution], rows: Sequence[Params]) -> dict[str, Condition]:
    """Learn when each parameter is active from the params of finished trials (define-by-run spaces).

    A parameter that some trials lack is taken to be active with exactly those values of one other parameter with which it was
    seen. The parent is the first in the order of `distributions`, of few values, that separates the trials without error;
    a parameter without such a parent is taken to be always active. A parent's value that has not been seen is taken to activate.
    """
    found: dict[str, Condition] = {}
    names = list(distributions)
    for name in names:
        has = [name in row for row in rows]
        if all(has):
            continue
        for parent in names:
            size = grid_size(distributions[parent])
            if parent == name or size is None or size > _FEW_VALUES or _descends(found, parent, name):
                continue
            on = {row[parent] for row, active in zip(rows, has, strict=True) if active and parent in row}
            off = {row.get(parent) for row, active in zip(rows, has, strict=True) if not active}
            if all(parent in row for row, active in zip(rows, has, strict=True) if active) and not on & off:
                unseen = {value for value in grid_values(distributions[parent]) if value not in off}
                found[name] = Condition(parent, frozenset(on | unseen))
                break
    return found


def _descends(conditions: Mapping[str, Condition], name: str, ancestor: str) -> bool:
    while name in conditions:
        name = conditions[name].parent
        if name == ancestor:
            return True
    return False
