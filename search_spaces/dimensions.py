"""Dimensions of a search space: a name and the values it may take. Optuna is not imported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from search_spaces._common.errors import UserError
from search_spaces.candidate import ParamValue

if TYPE_CHECKING:
    import numpy as np


_DIGITS = 9
_ROUNDING = 10.0**-_DIGITS


class Suggester(Protocol):
    """The part of ``optuna.Trial`` that a space uses. Repeated calls with one name return the same value."""

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any: ...

    def suggest_float(
        self, name: str, low: float, high: float, /, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> int: ...


class Dimension(Protocol):
    """One dimension of a search space."""

    @property
    def name(self) -> str: ...

    @property
    def default(self) -> ParamValue:
        """Value used where none is given: the first of a list, the middle of a range."""

    def suggest(self, trial: Suggester) -> ParamValue:
        """Suggest a value with the study's sampler."""

    def sample(self, rng: np.random.Generator) -> ParamValue:
        """Draw one value at random; the same generator state gives the same value."""

    def check(self, value: object) -> None:
        """Raise ``ValueError`` if ``value`` is not a value of this dimension."""

    def canonical(self, value: ParamValue) -> ParamValue:
        """Normalised form of a value that passed ``check``; candidate ids are hashes of it."""

    def nearest(self, wanted: ParamValue) -> ParamValue:
        """Value of this dimension closest to ``wanted``: the same, else the nearest number, else the first."""


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

    @property
    def default(self) -> ParamValue:
        return self.choices[0]

    def suggest(self, trial: Suggester) -> ParamValue:
        value: ParamValue = trial.suggest_categorical(self.name, self.choices)
        return value

    def sample(self, rng: np.random.Generator) -> ParamValue:
        return self.choices[int(rng.integers(len(self.choices)))]

    def check(self, value: object) -> None:
        if value not in self.choices:
            raise ValueError(f"{self.name} must be one of {list(self.choices)}, got {value!r}")

    def canonical(self, value: ParamValue) -> ParamValue:
        return value

    def nearest(self, wanted: ParamValue) -> ParamValue:
        if wanted in self.choices:
            return self.choices[self.choices.index(wanted)]
        if isinstance(wanted, str) or any(isinstance(choice, str) for choice in self.choices):
            return self.choices[0]
        return min(self.choices, key=lambda choice: abs(float(choice) - wanted))


@dataclass(frozen=True)
class Uniform:
    """A float from ``low`` to ``high``, both included, in steps where ``step`` is given."""

    name: str
    low: float
    high: float
    step: float | None = None

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(f"dimension {self.name!r}: need low <= high, got low={self.low}, high={self.high}")
        if self.step is not None and (self.step <= 0 or not _whole((self.high - self.low) / self.step)):
            raise ValueError(f"dimension {self.name!r}: from {self.low} no step of {self.step} ends at {self.high}")

    @property
    def default(self) -> ParamValue:
        return self.nearest((self.low + self.high) / 2)

    def suggest(self, trial: Suggester) -> ParamValue:
        return self.canonical(float(trial.suggest_float(self.name, self.low, self.high, step=self.step)))

    def sample(self, rng: np.random.Generator) -> ParamValue:
        if self.step is None:
            return self.nearest(float(rng.uniform(self.low, self.high)))
        steps = round((self.high - self.low) / self.step)
        return self.canonical(self.low + int(rng.integers(steps + 1)) * self.step)

    def check(self, value: object) -> None:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        inside = self.low - _ROUNDING <= number <= self.high + _ROUNDING
        if not inside or (self.step is not None and not _whole((number - self.low) / self.step)):
            steps = f" in steps of {self.step}" if self.step else ""
            raise ValueError(f"{self.name} must be a number from {self.low} to {self.high}{steps}, got {value!r}")

    def canonical(self, value: ParamValue) -> ParamValue:
        return round(float(value), _DIGITS)  # 0.1 + 2 * 0.1 is 0.3 here

    def nearest(self, wanted: ParamValue) -> ParamValue:
        inside = min(max(float(wanted), self.low), self.high)
        return self.canonical(self.low + round((inside - self.low) / self.step) * self.step if self.step else inside)


@dataclass(frozen=True)
class LogUniform:
    """A float from ``low`` to ``high``, both included, each factor as likely as the next."""

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise ValueError(f"dimension {self.name!r}: need 0 < low <= high, got low={self.low}, high={self.high}")

    @property
    def default(self) -> ParamValue:
        return min(max(math.sqrt(self.low * self.high), self.low), self.high)

    def suggest(self, trial: Suggester) -> ParamValue:
        return float(trial.suggest_float(self.name, self.low, self.high, log=True))

    def sample(self, rng: np.random.Generator) -> ParamValue:
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return min(max(drawn, self.low), self.high)

    def check(self, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{self.name} must be a number from {self.low} to {self.high}, got {value!r}")

    def canonical(self, value: ParamValue) -> ParamValue:
        return value

    def nearest(self, wanted: ParamValue) -> ParamValue:
        return min(max(float(wanted), self.low), self.high)


@dataclass(frozen=True)
class Integer:
    """A whole number from ``low`` to ``high``, both included, in steps of ``step``; on a log scale (of step 1) with ``log``."""

    name: str
    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        if self.low > self.high or self.step < 1 or (self.high - self.low) % self.step:
            raise ValueError(f"dimension {self.name!r}: from {self.low} no step of {self.step} ends at {self.high}")
        if self.log and (self.low < 1 or self.step != 1):
            raise ValueError(f"dimension {self.name!r}: a log scale needs low >= 1 and step 1, got low={self.low}")

    @property
    def default(self) -> ParamValue:
        return self.nearest(math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2)

    def suggest(self, trial: Suggester) -> ParamValue:
        return int(trial.suggest_int(self.name, self.low, self.high, step=self.step, log=self.log))

    def sample(self, rng: np.random.Generator) -> ParamValue:
        if self.log:
            return self.nearest(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self.low + int(rng.integers((self.high - self.low) // self.step + 1)) * self.step

    def check(self, value: object) -> None:
        number = value if isinstance(value, int) and not isinstance(value, bool) else self.low - 1
        if not self.low <= number <= self.high or (number - self.low) % self.step:
            steps = f" in steps of {self.step}" if self.step > 1 else ""
            raise ValueError(f"{self.name} must be a whole number from {self.low} to {self.high}{steps}, got {value!r}")

    def canonical(self, value: ParamValue) -> ParamValue:
        return int(value)

    def nearest(self, wanted: ParamValue) -> ParamValue:
        inside = min(max(float(wanted), self.low), self.high)
        return self.low + round((inside - self.low) / self.step) * self.step


def dimension_of(name: str, given: object) -> Dimension:
    """A dimension in Optuna's terms as one of this module.

    Args:
        name: of the dimension.
        given: an ``optuna.distributions`` object, a list of values, or a dimension of this module.

    Raises:
        UserError: something else, or a value that is no number, text or boolean.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(given, Categorical | Uniform | LogUniform | Integer):
        return replace(given, name=name)
    try:
        if isinstance(given, IntDistribution):
            return Integer(name, given.low, given.high, given.step, given.log)
        if isinstance(given, FloatDistribution):
            low, high = given.low, given.high
            return LogUniform(name, low, high) if given.log else Uniform(name, low, high, given.step)
        choices = given.choices if isinstance(given, CategoricalDistribution) else given
        if isinstance(choices, list | tuple) and all(isinstance(item, int | float | str | bool) for item in choices):
            return Categorical(name, tuple(choices))
    except ValueError as error:
        raise UserError(f"{error}; correct the dimension.") from error
    raise UserError(
        f"dimension {name!r} must be an optuna.distributions object or a list of numbers, texts or booleans, but is {given!r}."
    )


def _whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-6
