"""Training choices that are searched: dimensions ``training.KEY`` of a candidate, put over the study's own settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from search_spaces.candidate import TRAINING_PREFIX, Candidate
from trial_runner.config.training import TrainingSection

_OF_THE_STUDY = (
    "epochs",
    "evaluate_every",
    "device",
    "weights",
    "distillation.teacher",
    "pruning.allocation",
    "pruning.channel_multiple",
    "quantization",
)
"""What all trials share: their length, where and from what they train, and what decides the shape that the gate predicts."""
_MOST_COMBINATIONS = 1000


def training_of(base: TrainingSection, candidate: Candidate) -> TrainingSection:
    """How ``candidate`` is trained: the study's settings, but for what its own dimensions say.

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
    """What is wrong with the first combination of ``choices`` (values by key) that is no training, in words."""
    for key in choices:
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in _OF_THE_STUDY):
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
            where = ".".join(str(part) for part in problem["loc"])
            together = ", ".join(f"{key} {value}" for key, value in chosen.items())
            return (
                f"space.training.{where}: {problem['msg']}"
                if where
                else f"space.training, {together}: {problem['msg']}"
            )
    return None


def _changed(base: TrainingSection, chosen: Mapping[str, Any]) -> TrainingSection:
    values = base.model_dump()
    for key, value in chosen.items():
        *sections, name = key.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return type(base).model_validate(values)
