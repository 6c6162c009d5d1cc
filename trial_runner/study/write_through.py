"""Storage of a study's only writer: trials are read from memory, and several writes are stored in one transaction."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import RLock
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from objectives.optuna_private import TrialRewrite, trial_id as id_of
from trial_runner.study.patience import PatientStorage

Write = Callable[[BaseStorage], object]


class WriteThroughStorage(BaseStorage):
    """Storage whose trials are read from the database once, and changed in memory and there by each write.

    That is sound for the only writer of a study: what others add to it, as an enqueued trial, is read; what they change in a trial is
    not. A write that the database has not taken is kept, and stored before the next one.

    Args:
        backend: the database.
    """

    def __init__(self, backend: PatientStorage) -> None:
        self._backend = backend
        self._studies: dict[int, dict[int, FrozenTrial]] = {}
        self._study_of: dict[int, int] = {}
        self._opened: set[int] = set()
        self._distributions: dict[tuple[int, str], BaseDistribution] = {}
        self._waiting: list[Write] = []
        self._batches = 0
        self._lock = RLock()

    def refresh(self) -> None:
        """Read all trials again at their next use."""
        self._store()
        self._studies.clear()
        self._study_of.clear()
        self._distributions.clear()

    def rewrite(self, rewrites: Sequence[TrialRewrite]) -> None:
        """Replace values and attributes of stored trials in one transaction, and read all trials again at their next use."""
        self._store()
        self._backend.rewrite(rewrites)
        self.refresh()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Store the writes of the block in one transaction at its end; reads in the block see them."""
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1
            self._store_unless_batched()

    def _store_unless_batched(self) -> None:
        if not self._batches:
            self._store()

    def _store(self) -> None:
        """Store the writes that wait. What raises leaves them waiting."""
        with self._lock:
            writes = list(self._waiting)
            if len(writes) == 1:
                writes[0](self._backend)
            elif writes:
                self._backend.write_together(writes)
            del self._waiting[: len(writes)]

    # -- studies

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self._open(self._backend.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        self._backend.delete_study(study_id)
        self.refresh()
        self._opened.discard(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._backend.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._backend.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._open(self._backend.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._backend.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._backend.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._backend.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._backend.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[Any]:
        return self._backend.get_all_studies()

    def _open(self, study_id: int) -> int:
        self._opened.add(study_id)
        return study_id

    # -- trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        with self._lock:
            self._store()
            self._trials(study_id)
            number = self._backend.create_new_trial(study_id, template_trial)
            self._keep(study_id, self._backend.get_trial(number))
            return number

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        trial = self._updatable(trial_id)
        known = self._distributions.get((self._study_of[trial_id], param_name))
        if known is not None:
            check_distribution_compatibility(known, distribution)
        value = distribution.to_external_repr(param_value_internal)
        trial.params = {**trial.params, param_name: value}
        trial.distributions = {**trial.distributions, param_name: distribution}
        self._write(trial, lambda to: to.set_trial_param(trial_id, param_name, param_value_internal, distribution))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        trial = self._updatable(trial_id)
        if state == TrialState.RUNNING:  # compare-and-set against other writers
            with self._lock:
                self._store()
                changed = self._backend.set_trial_state_values(trial_id, state, values)
                self._keep(self._study_of[trial_id], self._backend.get_trial(trial_id))
                return changed
        trial.state = state
        if values is not None:
            trial.values = list(values)
        if state.is_finished():
            trial.datetime_complete = datetime.now()
        self._write(trial, lambda to: to.set_trial_state_values(trial_id, state, values))
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        trial = self._updatable(trial_id)
        trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}
        self._write(trial, lambda to: to.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._updatable(trial_id)
        trial.user_attrs = {**trial.user_attrs, key: value}
        self._write(trial, lambda to: to.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._updatable(trial_id)
        trial.system_attrs = {**trial.system_attrs, key: value}
        self._write(trial, lambda to: to.set_trial_system_attr(trial_id, key, value))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        kept = self._kept(trial_id)
        trial = copy.copy(kept)  # Optuna's `Trial` adds to the params of the one it is given
        trial.params, trial.distributions = dict(kept.params), dict(kept.distributions)
        trial.user_attrs, trial.system_attrs = dict(kept.user_attrs), dict(kept.system_attrs)
        trial.intermediate_values = dict(kept.intermediate_values)
        return trial

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        with self._lock:
            self._store_unless_batched()
            kept = self._trials(study_id)
            if not self._batches:
                for trial in self._backend.trials_after(study_id, max(kept, default=-1)):
                    self._keep(study_id, trial)
            trials = sorted(kept.values(), key=lambda trial: trial.number)
        found = trials if states is None else [trial for trial in trials if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        for trial in self.get_all_trials(study_id, deepcopy=False):
            if trial.number == trial_number:
                return id_of(trial)
        return self._backend.get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def _trials(self, study_id: int) -> dict[int, FrozenTrial]:
        """Return the kept trials of a study by their ids, after reading them for the first time."""
        if study_id not in self._studies:
            trials = self._backend.get_all_trials(study_id, deepcopy=False)
            self._studies[study_id] = {}
            for trial in trials:
                self._keep(study_id, trial)
        return self._studies[study_id]

    def _kept(self, trial_id: int) -> FrozenTrial:
        """Return the kept trial of an id. Raises KeyError for one that no opened study has."""
        for study_id in self._opened if trial_id not in self._study_of else ():
            self.get_all_trials(study_id, deepcopy=False)
        return self._studies[self._study_of[trial_id]][trial_id]

    def _updatable(self, trial_id: int) -> FrozenTrial:
        """Return a copy of a trial to be changed.

        Raises:
            KeyError: no opened study has it.
            UpdateFinishedTrialError: it is finished.
        """
        kept = self._kept(trial_id)
        self.check_trial_is_updatable(trial_id, kept.state)
        return copy.copy(kept)

    def _write(self, trial: FrozenTrial, write: Write) -> None:
        with self._lock:
            self._waiting.append(write)
            self._keep(self._study_of[id_of(trial)], trial)
            self._store_unless_batched()

    def _keep(self, study_id: int, trial: FrozenTrial) -> None:
        self._studies[study_id][id_of(trial)] = trial
        self._study_of[id_of(trial)] = study_id
        for name, distribution in trial.distributions.items():
            self._distributions.setdefault((study_id, name), distribution)
