"""Axes that a study adds to any search space: what its networks run in on the device, and how they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.candidate import PRECISION, PRECISIONS
from search_spaces.dimensions import Categorical, Dimension, LogUniform
from search_spaces.options import known_names
from search_spaces.space import TRAINING_PREFIX


def added_dimensions(
    precisions: Sequence[str] | None, training: Mapping[str, Sequence[Any] | Mapping[str, float]]
) -> tuple[Dimension, ...]:
    """The axis ``precision`` where several are offered, and one for each key of the training section.

    Args:
        precisions: of ``PRECISIONS``; None: all candidates run in the study's own.
        training: by key a list of values, or ``low`` and ``high`` of a range on a log scale.

    Raises:
        UserError: a precision is unknown or named twice, or there is none.
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
