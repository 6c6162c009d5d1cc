"""Dimensions of a search space: a name and the values it may take. Optuna is spoken to, never imported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from search_spaces.candidate import ParamValue

if TYPE_CHECKING:
    import numpy as np


class Suggester(Protocol):
    """The part of ``optuna.Trial`` that a space uses. Asked twice for one name, it answers the same value."""

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any: ...

    def suggest_float(
        self, name: str, low: float, high: float, /, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> int: ...


class Dimension(Protocol):
    """One axis of a space."""

    @property
    def name(self) -> str: ...

    def suggest(self, trial: Suggester) -> ParamValue:
        """Ask the sampler."""

    def sample(self, rng: np.random.Generator) -> ParamValue:
        """Draw one value at random; the same generator state gives the same value."""

    def check(self, value: object) -> None:
        """Raise ``ValueError`` when ``value`` is not on this axis."""


@dataclass(frozen=True)
class Categorical:
    """One of a few values, in no particular order."""

    name: str
    choices: tuple[ParamValue, ...]

    def __post_init__(self) -> None:
        if not self.choices or len(set(self.choices)) != len(self.choices):
            raise ValueError(
                f"dimension {self.name!r}: choices must be distinct and at least one, got {self.choices!r}"
            )

    def suggest(self, trial: Suggester) -> ParamValue:
        value: ParamValue = trial.suggest_categorical(self.name, self.choices)
        return value

    def sample(self, rng: np.random.Generator) -> ParamValue:
        return self.choices[int(rng.integers(len(self.choices)))]

    def check(self, value: object) -> None:
        if value not in self.choices:
            raise ValueError(f"{self.name} must be one of {list(self.choices)}, got {value!r}")


@dataclass(frozen=True)
class LogUniform:
    """A float from ``low`` to ``high``, both included, each factor as likely as the next."""

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise ValueError(f"dimension {self.name!r}: need 0 < low <= high, got low={self.low}, high={self.high}")

    def suggest(self, trial: Suggester) -> ParamValue:
        return float(trial.suggest_float(self.name, self.low, self.high, log=True))

    def sample(self, rng: np.random.Generator) -> ParamValue:
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return min(max(drawn, self.low), self.high)

    def check(self, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{self.name} must be a number from {self.low} to {self.high}, got {value!r}")
