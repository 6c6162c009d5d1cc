"""Searched training settings: dimensions ``training.KEY`` of a candidate override the study's settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from search_spaces.candidate import TRAINING_PREFIX, Candidate
from search_spaces.spaces.config import stored_name
from trial_runner.config.training import TrainingSection

_FIXED = (
    "epochs",
    "evaluate_every",
    "device",
    "weights",
    "inherit",
    "distillation.teacher",
    "pruning.allocation",
    "pruning.channel_multiple",
    "quantization",
)
"""Settings that all trials share: length, device, initial weights, and those that determine the predicted shape."""
_MOST_COMBINATIONS = 1000


def training_of(base: TrainingSection, candidate: Candidate) -> TrainingSection:
    """Return the training settings of ``candidate``: the study's, overridden by its own dimensions.

    Raises:
        ValidationError: they do not fit together; `first_misfit` finds that for a whole space before a study starts.
    """
    chosen = {
        name.removeprefix(TRAINING_PREFIX): value
        for name, value in candidate.params.items()
        if name.startswith(TRAINING_PREFIX)
    }
    return _changed(base, chosen) if chosen else base


def first_misfit(base: TrainingSection, choices: Mapping[str, Sequence[Any]]) -> str | None:
    """Return a message for the first invalid combination of ``choices`` (values by key), or None."""
    for key in choices:
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in _FIXED):
            return (
                f"space.training.{key}: it is the same for all trials of a study; set training.{key}, or leave it out"
            )
    combinations: Iterable[tuple[Any, ...]] = itertools.product(*choices.values())
    for values in itertools.islice(combinations, _MOST_COMBINATIONS):
        chosen = dict(zip(choices, values, strict=True))
        try:
            _changed(base, chosen)
        except ValidationError as error:
            problem = error.errors()[0]
            message = problem["msg"].removeprefix("Value error, ")
            where = ".".join(str(part) for part in problem["loc"])
            together = ", ".join(f"{key} {value}" for key, value in chosen.items())
            return f"space.training.{where}: {message}" if where else f"space.training, {together}: {message}"
    return None


def stored_key(key: str) -> str:
    """Return the dotted key of a training setting as it is stored, with older names for renamed ones."""
    *sections, name = key.split(".")
    model: type[BaseModel] = TrainingSection
    for section in sections:
        kind = model.model_fields[section].annotation if section in model.model_fields else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return key
        model = kind
    return ".".join([*sections, stored_name(model, name)]) if name in model.model_fields else key


def read_choice(key: str, value: Any) -> Any:
    """Return a choice as the training reads it where it is text: ``"1e-1"`` is a number for a key that takes numbers."""
    *sections, name = key.split(".")
    model: type[BaseModel] = TrainingSection
    for section in sections:
        field = model.model_fields.get(section)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return value
        model = field.annotation
    field = next(
        (item for known, item in model.model_fields.items() if name in (known, stored_name(model, known))), None
    )
    if field is None or field.annotation is None or not isinstance(value, str):
        return value
    try:
        read = TypeAdapter[Any](field.annotation).validate_python(value)
    except ValidationError:
        return value
    return read if isinstance(read, bool | int | float) else value


def _changed(base: TrainingSection, chosen: Mapping[str, Any]) -> TrainingSection:
    values = base.model_dump()
    for key, value in chosen.items():
        *sections, name = key.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return type(base).model_validate(values)
