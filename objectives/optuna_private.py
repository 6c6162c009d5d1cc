"""Optuna's private interfaces, used in this module alone; check it first when the upper bound on Optuna is raised.

Optuna's public API refuses what a resumable, multi-objective study with pruned trials needs: writing to a trial that another
process asked for, returning a running trial to WAITING, pruning a multi-objective trial, and showing samplers a subset of
the trials. The package `objectives` is the lowest of those that use Optuna, so all of them may import this.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState


def trial_id(trial: Trial | FrozenTrial) -> int:
    """Return the storage's id of a trial, which is unique in the database; its ``number`` is so in its study only."""
    return int(trial._trial_id)


def study_id(study: optuna.Study) -> int:
    """Return the storage's id of a study."""
    return int(study._study_id)


def storage_of(study: optuna.Study) -> BaseStorage:
    """Return the storage that a study reads and writes."""
    return study._storage


class StudyStorage:
    """Reads and writes of a study's storage that `optuna.Study` has no public method for. Trials go by their storage id."""

    def __init__(self, study: optuna.Study) -> None:
        self._storage, self._study_id = study._storage, study._study_id

    def trial_id(self, number: int) -> int:
        """Return the id of the trial with that number. Raises KeyError for a number that the study does not have."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def trial(self, trial_id: int) -> FrozenTrial:
        """Return the trial as it is stored now."""
        return self._storage.get_trial(trial_id)

    def set_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute of an unfinished trial; ``value`` is a JSON value."""
        self._storage.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of an unfinished trial; ``value`` is a JSON value. Dashboards do not show it."""
        self._storage.set_trial_system_attr(trial_id, key, value)

    def set_constraints(self, trial_id: int, violations: Sequence[float]) -> None:
        """Set the constraint violations of an unfinished trial, under the key that samplers and optuna-dashboard read."""
        self._storage.set_trial_system_attr(trial_id, "constraints", [float(value) for value in violations])

    def set_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        """Report a value of an unfinished trial at a step."""
        self._storage.set_trial_intermediate_value(trial_id, step, value)

    def set_state(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        """Set the state of an unfinished trial, with its objective values where the state is COMPLETE."""
        self._storage.set_trial_state_values(trial_id, state, values)

    def system_attrs(self) -> dict[str, Any]:
        """Return the study's system attributes."""
        return self._storage.get_study_system_attrs(self._study_id)

    def set_system_attr(self, key: str, value: Any) -> None:
        """Set a system attribute of the study; ``value`` is a JSON value."""
        self._storage.set_study_system_attr(self._study_id, key, value)


class _StudyView(optuna.Study):
    _shown: Callable[[list[FrozenTrial]], list[FrozenTrial]]

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return self._shown(super()._get_trials(deepcopy, states, use_cache))


def study_view(study: optuna.Study, shown: Callable[[list[FrozenTrial]], list[FrozenTrial]]) -> optuna.Study:
    """Return the same study with its list of trials replaced by ``shown`` of it, as samplers see it; of a view, a view of it."""
    inner = study._shown if isinstance(study, _StudyView) else list
    view = copy.copy(study)
    view.__class__ = _StudyView
    assert isinstance(view, _StudyView)
    view._shown = lambda trials: shown(inner(trials))
    return view
