"""Writer of a launch's trials into Optuna's storage: attributes, curve, constraints and final state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hw_latency_model.types import LatencyEstimate
from objectives import trial_record as tr
from objectives.objective import LATENCY, Objective
from objectives.optuna_private import CONSTRAINTS, StudyStorage, TrialRewrite, trial_id
from objectives.trial_record import CostEstimate, Outcome, TrialRecord


class StudyWriter:
    """The only writer of a study's trials, by their number; it makes no decisions.

    Args:
        budget_ms: latency budget; the excess over it is the first constraint.
    """

    def __init__(self, study: optuna.Study, objectives: Sequence[Objective], budget_ms: float) -> None:
        self._study, self._objectives, self._budget_ms = study, tuple(objectives), budget_ms
        self._storage = StudyStorage(study)
        self._storage.refresh()  # what was read before this driver held the study may have been changed by another
        self._hides_objects = tr.hides_objects(study)
        self._ids: dict[int, int] = {}
        self._epochs: dict[int, set[int]] = {}

    def batch(self) -> AbstractContextManager[None]:
        """Return a context whose writes are stored together at its end."""
        return self._storage.batch()

    def ask(self) -> tuple[optuna.Trial, TrialRecord]:
        """Return the study's next trial, requeued ones first, and its stored record."""
        trial = self._study.ask()
        self._ids[trial.number] = trial_id(trial)
        stored = self.record(trial.number)
        self._epochs[trial.number] = {epoch for epoch, _ in stored.curve}
        return trial, stored

    def record(self, number: int) -> TrialRecord:
        """Return the trial's current record, without later facts (export, measurement)."""
        return tr.read_record(self._storage.trial(self._ids[number]), {})

    def enqueued(self, number: int) -> bool:
        """Return True for a trial that was enqueued with values of its own."""
        return "fixed_params" in self._storage.trial(self._ids[number]).system_attrs

    def write(self, number: int, key: str, value: Any) -> None:
        """Store an attribute; an object or list as a system attribute and its summary, if the study hides them."""
        trial_id = self._ids[number]
        if not (self._hides_objects and key in tr.HIDDEN):
            self._storage.set_user_attr(trial_id, key, value)
            return
        self._storage.set_trial_system_attr(trial_id, tr.system_name(key), value)
        for name, fact in tr.short_facts(key, value).items():
            self._storage.set_user_attr(trial_id, name, fact)

    def write_targets(self, number: int, estimates: Mapping[str, LatencyEstimate]) -> None:
        """Store a trial's latency on the further targets; nothing where there are none."""
        if estimates:
            self.write(number, tr.TARGETS, {name: estimate.to_dict() for name, estimate in estimates.items()})

    def write_costs(self, number: int, costs: Mapping[str, CostEstimate]) -> None:
        self.write(number, tr.COSTS, {name: cost.to_dict() for name, cost in costs.items()})

    def add_to_curve(self, number: int, curve: Iterable[tuple[int, float]]) -> None:
        """Store the points of the curve that are not stored yet."""
        for epoch, miou in curve:
            if epoch not in self._epochs[number]:
                self._storage.set_intermediate_value(self._ids[number], epoch, miou)
                self._epochs[number].add(epoch)

    def constrain(self, number: int) -> None:
        """Store the constraint violations known so far: latency first, then each other budget (0 while unknown)."""
        tr.set_constraints(self._study, self._ids[number], self._violations(self.record(number)))

    def _violations(self, record: TrialRecord) -> list[float]:
        violations = [record.latency_ms - self._budget_ms if record.latency_ms is not None else 0.0]
        for objective in self._objectives:
            if objective.budget is None or objective.name == LATENCY.name:
                continue
            known = objective.available == "pre_training" or (record.score is not None and record.score.final)
            value = objective.value(record) if known else math.nan
            violations.append(0.0 if math.isnan(value) else objective.violation(value))
        return violations

    def replace_predictions(self, records: Iterable[TrialRecord]) -> None:
        """Store other predictions (latency, on further targets, other costs) of trials in whatever state, in one transaction.

        Values of objectives that are predicted, constraint violations and short facts follow; what was trained and measured stays, and
        so does the estimate that a measurement was made after, as the one to compare it with.
        """
        trials = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        self._storage.rewrite([self._with_predictions(trials[record.number], record) for record in records])

    def _with_predictions(self, trial: FrozenTrial, record: TrialRecord) -> TrialRewrite:
        predictions: dict[str, Any] = {}
        if record.estimate is not None:
            predictions[tr.ESTIMATE] = record.estimate.to_dict()
            stored = tr.trial_attributes(trial)
            if record.measurement is not None and tr.BLIND_ESTIMATE not in stored:
                predictions[tr.BLIND_ESTIMATE] = stored[tr.ESTIMATE]
        if record.targets:
            predictions[tr.TARGETS] = {name: estimate.to_dict() for name, estimate in record.targets.items()}
        if record.costs:
            predictions[tr.COSTS] = {name: cost.to_dict() for name, cost in record.costs.items()}
        user, system = dict[str, Any](), dict[str, Any]()
        for name, value in predictions.items():
            if self._hides_objects:
                system[tr.system_name(name)] = value
                user |= tr.short_facts(name, value)
            else:
                user[name] = value
        if CONSTRAINTS in trial.system_attrs:
            system[CONSTRAINTS] = self._violations(record)
        predicted = [at for at, item in enumerate(self._objectives) if item.available == "pre_training"]
        values = {at: self._objectives[at].value(record) for at in predicted} if trial.values else {}
        return TrialRewrite(trial_id(trial), values, user, system)

    def end(
        self,
        number: int,
        state: TrialState,
        outcome: Outcome,
        reason: str | None,
        values: tuple[float, ...] | None = None,
    ) -> TrialRecord:
        """Store the end of a trial, the outcome before the state; return its record."""
        if reason is not None:
            self.write(number, tr.REASON, reason)
        self.write(number, tr.OUTCOME, outcome)
        if state == TrialState.PRUNED:
            # `Study.tell` would raise on a pruned multi-objective trial's curve; the storage does not.
            self._storage.set_state(self._ids[number], state)
        else:
            self._study.tell(number, values=values, state=state, skip_if_finished=True)  # told before, unheard
        return self.record(number)

    def values(self, record: TrialRecord) -> tuple[float, ...]:
        """Return one value per objective; NaN where the record has none."""
        return tuple(objective.value(record) for objective in self._objectives)

    def missing_objectives(self, record: TrialRecord) -> str | None:
        """Return a message on the objectives a finished trial has no value for, or None."""
        missing = [o.label for o in self._objectives if math.isnan(o.value(record))]
        if not missing:
            return None
        return (
            f"its record has no value of {', '.join(missing)}: no validation label or prediction contains its classes"
        )

    def pause(self, number: int, reason: str) -> TrialRecord:
        """Store that a trial was stopped, in a state in which it can be resumed; return its record."""
        self.write(number, tr.REASON, reason)
        self.write(number, tr.OUTCOME, Outcome.STOPPED)
        return self.record(number)

    def resume(self, number: int, epoch: int) -> None:
        """Store that a trial that was stopped at this epoch runs again."""
        self.write(number, tr.RESUMED_AT, epoch)
        self.write(number, tr.OUTCOME, None)
        self.write(number, tr.REASON, None)

    def recover_stale_trials(self, keep: Callable[[TrialRecord], bool] = lambda record: False) -> None:
        """Recover RUNNING trials left by a dead driver: finish those with a stored outcome, requeue (WAITING) the rest.

        Paused trials are stopped for good, unless ``keep`` returns True for them.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            outcome = trial.user_attrs.get(tr.OUTCOME)
            record = tr.read_record(trial, {})
            if record.paused and keep(record):
                self._ids[trial.number] = trial_id(trial)
                self._epochs[trial.number] = set(trial.intermediate_values)
                continue
            if outcome == Outcome.FINISHED and self.missing_objectives(record) is None:
                self._storage.set_state(trial_id(trial), TrialState.COMPLETE, self.values(record))
            elif outcome in (Outcome.INFEASIBLE, Outcome.STOPPED):
                self._storage.set_state(trial_id(trial), TrialState.PRUNED)
            elif tr.CANDIDATE in tr.trial_attributes(trial):
                self._storage.set_state(trial_id(trial), TrialState.WAITING)
            else:
                reason = "its driver died before its parameters were stored"
                self._storage.set_user_attr(trial_id(trial), tr.REASON, reason)
                self._storage.set_state(trial_id(trial), TrialState.FAIL)
