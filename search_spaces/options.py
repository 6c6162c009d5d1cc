"""Conversion of a search space's options, as given in YAML, to dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from search_spaces._common.errors import UserError
from search_spaces._common.names import unknown_name
from search_spaces.candidate import PRECISION, PRECISIONS, TRAINING_PREFIX
from search_spaces.dimensions import Categorical, Dimension, LogUniform, Uniform

RESOLUTION_MULTIPLE_PX = 32

Numbers = Sequence[float] | Mapping[str, float]
"""A list of values, or a range: ``low``, ``high`` and, unless it is continuous, ``step``."""

_T = TypeVar("_T")


def parse_resolution(text: str) -> tuple[int, int]:
    """Parse ``"96x128"`` to (96, 128): height, then width, in pixels."""
    height, _, width = text.partition("x")
    return int(height), int(width)


def known_names(option: str, given: Sequence[str] | None, what: str, known: Sequence[str]) -> tuple[str, ...]:
    """Check the names ``given``; None stands for all ``known`` ones.

    Raises:
        UserError: the list is empty or has a duplicate or unknown name; the message suggests the nearest.
    """
    names = list(known) if given is None else listed(option, given)
    for name in names:
        if name not in known:
            raise unknown_name(what, name, known)
    return distinct(option, names)


def number_dimension(name: str, option: str, given: Numbers, *, low: float, high: float) -> Dimension:
    """Make the dimension ``name`` from a list of numbers or a range, all between ``low`` and ``high``.

    Raises:
        UserError: the option is neither.
    """
    if not isinstance(given, Mapping):
        return Categorical(name, numbers(option, given, low=low, high=high))
    ends = {key: number(value) for key, value in given.items() if value is not None}
    if not {"low", "high"} <= set(ends) <= {"low", "high", "step"} or not low <= ends["low"] <= ends["high"] <= high:
        raise UserError(
            f"search space option {option}: a range is low, high and perhaps step, from {low} to {high}, got {dict(given)!r}."
        )
    try:
        return Uniform(name, ends["low"], ends["high"], ends.get("step"))
    except ValueError as error:
        raise UserError(f"search space option {option}: {error}; choose a step that leads from low to high.") from error


def numbers(option: str, given: Sequence[float], *, low: float, high: float) -> tuple[float, ...]:
    """Check that ``given`` holds distinct numbers between ``low`` and ``high``; returns them as floats.

    Raises:
        UserError: it does not.
    """
    values = []
    for item in listed(option, given):
        value = number(item)
        if not low <= value <= high:
            raise UserError(f"search space option {option}: each must be a number from {low} to {high}, got {item!r}.")
        values.append(value)
    return distinct(option, values)


def whole_numbers(option: str, given: Sequence[float], allowed: Sequence[int]) -> tuple[int, ...]:
    """Check that ``given`` holds distinct members of ``allowed``; returns them as integers.

    Raises:
        UserError: it does not.
    """
    values = []
    for item in listed(option, given):
        value = number(item)
        if value not in allowed:
            choices = ", ".join(str(choice) for choice in allowed)
            raise UserError(f"search space option {option}: each must be one of {choices}, got {item!r}.")
        values.append(int(value))
    return distinct(option, values)


def truths(option: str, given: Sequence[bool]) -> tuple[bool, ...]:
    """Check that ``given`` holds distinct booleans.

    Raises:
        UserError: it does not.
    """
    values = listed(option, given)
    if not all(isinstance(value, bool) for value in values):
        raise UserError(f"search space option {option}: each must be true or false, got {values!r}.")
    return distinct(option, values)


def resolutions(given: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Convert ``[[96, 128]]`` to ``("96x128",)``.

    Raises:
        UserError: a side is not a multiple of 32.
    """
    for pair in listed("resolutions_px", given):
        sides: list[object] = list(pair) if isinstance(pair, list | tuple) else []
        whole = len(sides) == 2 and all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
        if not whole or any(side <= 0 or side % RESOLUTION_MULTIPLE_PX for side in pair):
            raise UserError(
                f"search space option resolutions_px: each must be [height, width], both multiples of "
                f"{RESOLUTION_MULTIPLE_PX}, such as [96, 128], got {pair!r}."
            )
    return distinct("resolutions_px", [f"{pair[0]}x{pair[1]}" for pair in given])


def log_range(option: str, given: Sequence[float]) -> LogUniform:
    """Make the log-scaled dimension ``option`` from a pair (lowest, highest).

    Raises:
        UserError: it is not a pair of positive numbers in ascending order.
    """
    pair = listed(option, given)
    ends = [number(end) for end in pair]
    if len(ends) != 2 or not 0.0 < ends[0] <= ends[1] < math.inf:
        raise UserError(f"search space option {option}: must be [lowest, highest], both above 0, got {given!r}.")
    return LogUniform(option, *ends)


def added_dimensions(
    precisions: Sequence[str] | None, training: Mapping[str, Sequence[Any] | Mapping[str, float]]
) -> tuple[Dimension, ...]:
    """Make the dimension ``precision`` if precisions are given, and one for each key of the section training.

    Args:
        precisions: members of ``PRECISIONS``; None: all candidates run in the study's own precision.
        training: by key a list of values, or ``low`` and ``high`` of a range on a log scale.

    Raises:
        UserError: a precision is unknown or a duplicate, or the list is empty.
    """
    axes: list[Dimension] = []
    if precisions is not None:
        axes.append(Categorical(PRECISION, known_names("precisions", precisions, "precision", PRECISIONS)))
    for key, values in training.items():
        name = f"{TRAINING_PREFIX}{key}"
        if isinstance(values, Mapping):
            axes.append(LogUniform(name, values["low"], values["high"]))
        else:
            axes.append(Categorical(name, tuple(values)))
    return tuple(axes)


def number(value: object) -> float:
    """Convert ``value`` to a float; NaN if it is not a number. Text is accepted because YAML reads ``1e-3`` as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan


def listed(option: str, given: Sequence[_T]) -> list[_T]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise UserError(f"search space option {option}: must be a list with at least one entry, got {given!r}.")
    return list(given)


def distinct(option: str, values: Sequence[_T]) -> tuple[_T, ...]:
    if len(set(values)) != len(values):
        raise UserError(f"search space option {option}: an entry is listed twice in {list(values)!r}; leave one.")
    return tuple(values)
