"""What a study optimises, from its configuration and its database."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.samplers import BaseSampler

from objectives.objective import LATENCY, Objective, get_objective
from trial_runner.config.study import StudyConfig
from trial_runner.study.storage import open_study

CLASS_NAMES = "class_names"


def objectives_of(config: StudyConfig, class_names: Sequence[str] = ()) -> tuple[Objective, ...]:
    """The study's objectives in its order, each with its budget; latency's is the device's.

    Args:
        class_names: of the data; without them the objective of a class tells no value.

    Raises:
        UserError: an objective names a class that is not there.
    """
    budgets = {LATENCY.name: config.device.latency_budget_ms}
    return tuple(
        get_objective(
            item.name, budget=budgets.get(item.name, item.budget), class_names=class_names, direction=item.direction
        )
        for item in config.objectives
    )


def open_configured(config: StudyConfig, *, create: bool = False, sampler: BaseSampler | None = None) -> optuna.Study:
    """The study of a configuration; see ``storage.open_study``."""
    study = config.study
    return open_study(study.storage, study.name, create=create, sampler=sampler, objectives=objectives_of(config))


def stored_objectives(config: StudyConfig, study: optuna.Study) -> tuple[Objective, ...]:
    """``objectives_of`` with the classes that the launch noted, so that the data need not be at hand."""
    return objectives_of(config, tuple(study.user_attrs.get(CLASS_NAMES, ())))


def note_class_names(study: optuna.Study, class_names: Sequence[str]) -> None:
    """Store the order in which scores list their classes."""
    study.set_user_attr(CLASS_NAMES, list(class_names))
