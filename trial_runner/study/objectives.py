"""Objectives of a study, from its configuration and its database."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.samplers import BaseSampler

from objectives.objective import LATENCY, Objective, get_objective
from trial_runner.config.study import StudyConfig
from trial_runner.study.patience import Patience
from trial_runner.study.storage import StudyNotFoundError, open_study

CLASS_NAMES = "class_names"


def objectives_of(config: StudyConfig, class_names: Sequence[str] = ()) -> tuple[Objective, ...]:
    """Return the study's objectives in order, each with its budget; the budget of latency is the device's.

    Args:
        class_names: of the data; without them the objective of a class has no value.

    Raises:
        UserError: an objective names an unknown class.
    """
    budgets = {LATENCY.name: config.device.latency_budget_ms}
    return tuple(
        get_objective(
            item.name, budget=budgets.get(item.name, item.budget), class_names=class_names, direction=item.direction
        )
        for item in config.objectives
    )


def open_configured(
    config: StudyConfig,
    *,
    create: bool = False,
    sampler: BaseSampler | None = None,
    patience: Patience | None = None,
) -> optuna.Study:
    """Open the study of a configuration; see ``storage.open_study``."""
    section, objectives = config.study, objectives_of(config)
    return open_study(
        section.storage, section.name, create=create, sampler=sampler, objectives=objectives, patience=patience
    )


def stored_study(config: StudyConfig) -> optuna.Study | None:
    """Return the study of an earlier launch; None where there is none.

    Raises:
        StorageError: the database cannot be read, so that nothing is known of an earlier launch.
    """
    try:
        return open_configured(config)
    except StudyNotFoundError:
        return None


def stored_objectives(config: StudyConfig, study: optuna.Study) -> tuple[Objective, ...]:
    """Return ``objectives_of`` with the class names stored by the launch, so that the data are not needed."""
    return objectives_of(config, tuple(study.user_attrs.get(CLASS_NAMES, ())))


def note_class_names(study: optuna.Study, class_names: Sequence[str]) -> None:
    """Store the order of the classes in scores."""
    study.set_user_attr(CLASS_NAMES, list(class_names))
