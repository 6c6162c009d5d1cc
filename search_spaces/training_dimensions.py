"""Axes that say how a network is trained, which a study adds to any search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.dimensions import Categorical, Dimension, LogUniform
from search_spaces.space import TRAINING_PREFIX


def training_dimensions(choices: Mapping[str, Sequence[Any] | Mapping[str, float]]) -> tuple[Dimension, ...]:
    """One axis per key of the training section: a list of values, or ``low`` and ``high`` of a range on a log scale."""
    axes: list[Dimension] = []
    for key, values in choices.items():
        name = f"{TRAINING_PREFIX}{key}"
        if isinstance(values, Mapping):
            axes.append(LogUniform(name, values["low"], values["high"]))
        else:
            axes.append(Categorical(name, tuple(values)))
    return tuple(axes)
