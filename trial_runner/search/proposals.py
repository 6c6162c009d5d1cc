"""The next trial of a study: taken from Optuna, checked before training, and given what its training needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import optuna
from optuna.trial import TrialState

from hw_latency_model import LatencyEstimate
from objectives import trial_record as tr
from objectives.trial_record import Outcome, TrialRecord
from search_spaces import SearchSpace
from search_spaces.candidate import Candidate
from trial_runner.config.study import StudyConfig
from trial_runner.config.training_search_space import training_of
from trial_runner.constraints.cost import CostConstraint
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.search.budget import StudyBudget
from trial_runner.search.final_training import best_teacher
from trial_runner.search.relatives import best_relative
from trial_runner.study.paths import StudyPaths
from trial_runner.study.stored_space import StoredSpace
from trial_runner.study.writer import StudyWriter
from trial_runner.training.trial_spec import CHECKPOINT


class Proposals:
    """Starts the trials of a study, and ends those at once that need or may not be trained.

    Args:
        records: returns the study's records.
        plan_of: returns the channels that each group of a candidate keeps; None for the same ratio in each group.
        costs: constraints on costs other than latency; None where no objective needs them.
        latency_on_targets: returns a candidate's latency on the further targets, by their name.
    """

    def __init__(
        self,
        config: StudyConfig,
        study: optuna.Study,
        space: SearchSpace,
        gate: LatencyConstraint,
        paths: StudyPaths,
        writer: StudyWriter,
        budget: StudyBudget,
        records: Callable[[], list[TrialRecord]],
        plan_of: Callable[[Candidate], Mapping[str, int] | None],
        costs: CostConstraint | None,
        latency_on_targets: Callable[[Candidate], Mapping[str, LatencyEstimate]],
    ) -> None:
        self._config, self._study, self._space, self._gate, self._paths = config, study, space, gate, paths
        self._writer, self._budget, self._records = writer, budget, records
        self._plan_of, self._costs, self._latency_on_targets = plan_of, costs, latency_on_targets
        self._stored_space = StoredSpace(space, study.get_trials(deepcopy=False))
        self._known: dict[str, TrialRecord] = {}

    def enqueue(self, candidate: Candidate, attrs: Mapping[str, int] | None = None) -> None:
        """Make a candidate one of the next trials, with user attributes."""
        self._study.enqueue_trial(self._stored_space.params(candidate), user_attrs=dict(attrs) if attrs else None)

    def note(self, record: TrialRecord) -> None:
        """Remember a trial that has ended: its candidate is not trained again."""
        if record.candidate and record.duplicate_of is None and record.parent_trial is None:
            self._known[record.candidate.id] = record

    def propose(self) -> tuple[int, TrialRecord | None]:
        """Start the next trial; return its number, and its record if it has ended without training."""
        self._stored_space.rename_enqueued(self._study)
        trial, stored = self._writer.ask()
        number = trial.number
        try:
            candidate = stored.candidate or self._suggest(trial, stored)
        except ValueError as error:
            if not self._writer.enqueued(number):
                raise
            return number, self._end_off_the_space(number, error)
        if stored.curve and stored.latency_ms is not None:
            self._writer.write_targets(number, {**self._latency_on_targets(candidate), **stored.targets})
            return number, None
        self._writer.write(number, tr.CANDIDATE, candidate.to_dict())
        self._choose_teacher(number, candidate)
        if stored.parent_trial is not None:
            self._copy_estimate(number, stored.parent_trial)
            return number, None
        ended = self._end_duplicate(number, candidate) or self._refuse(number, candidate)
        ended = ended or self._end_too_long(number, candidate)
        if ended is None:
            self._choose_relative(number, candidate)
            self._write_plan(number, self._plan_of(candidate))
        return number, ended

    def _suggest(self, trial: optuna.Trial, stored: TrialRecord) -> Candidate:
        """Suggest a candidate; a final training of a network that is not of the space any more keeps its own.

        Raises:
            ValueError: the trial was enqueued with values outside the space.
        """
        try:
            return self._stored_space.suggest(trial)
        except ValueError:
            base = None if stored.parent_trial is None else self._records()[stored.parent_trial].candidate
            if base is None:
                raise
            return base

    def _end_off_the_space(self, number: int, error: ValueError) -> TrialRecord:
        self._writer.constrain(number)
        reason = f"it was enqueued with parameters that are not of the space: {error}"
        return self._writer.end(number, TrialState.FAIL, Outcome.FAILED, reason)

    def _choose_teacher(self, number: int, candidate: Candidate) -> None:
        if not training_of(self._config.training, candidate).distillation.study_best:
            return
        teacher = best_teacher(self._records())
        if teacher is not None:
            self._writer.write(number, tr.TEACHER, teacher.to_dict())

    def _choose_relative(self, number: int, candidate: Candidate) -> None:
        """Store the trial whose weights a candidate starts from; a requeued trial keeps its own."""
        if not self._config.training.inherit or self._writer.record(number).relative is not None:
            return
        usable = [record for record in self._records() if (self._paths.trial(record.number) / CHECKPOINT).is_file()]
        relative = best_relative(usable, candidate, self._space.architecture_params)
        if relative is not None:
            self._writer.write(number, tr.RELATIVE, relative.to_dict())

    def _write_plan(self, number: int, plan: Mapping[str, int] | None) -> None:
        if plan:
            self._writer.write(number, tr.CHANNELS, dict(plan))

    def _copy_estimate(self, number: int, base: int) -> None:
        attrs = tr.trial_attributes(self._study.get_trials(deepcopy=False)[base])
        self._write_plan(number, attrs.get(tr.CHANNELS))
        self._writer.write(number, tr.ESTIMATE, attrs[tr.ESTIMATE])
        for name in (tr.COSTS, tr.TARGETS):
            if name in attrs:
                self._writer.write(number, name, attrs[name])
        self._writer.constrain(number)

    def _refuse(self, number: int, candidate: Candidate) -> TrialRecord | None:
        estimate = self._gate.estimate(candidate)
        self._writer.write(number, tr.ESTIMATE, estimate.to_dict())
        reason = self._gate.violation_reason(estimate)
        if reason is None and self._costs is not None:
            costs = self._costs.costs(candidate)
            self._writer.write_costs(number, costs)
            reason = self._costs.violation_reason(costs)
        self._writer.write_targets(number, self._latency_on_targets(candidate))
        self._writer.constrain(number)
        if reason is None:
            return None
        return self._writer.end(number, TrialState.PRUNED, Outcome.INFEASIBLE, reason)

    def _end_too_long(self, number: int, candidate: Candidate) -> TrialRecord | None:
        if self._config.search.time_budget_minutes is None:
            return None
        alike = [r for r in self._records() if r.candidate and r.candidate.precision == candidate.precision]
        latency_ms = self._writer.record(number).latency_ms or 0.0
        reason = self._budget.too_long(alike, latency_ms, self._config.training.epochs)
        if reason is None:
            return None
        return self._writer.end(number, TrialState.PRUNED, Outcome.INFEASIBLE, reason)

    def _end_duplicate(self, number: int, candidate: Candidate) -> TrialRecord | None:
        known = self._known.get(candidate.id)
        # A candidate found infeasible before is checked against the budget of this start.
        if known is None or known.outcome in (Outcome.FAILED, Outcome.INFEASIBLE):
            return None
        self._writer.write(number, tr.DUPLICATE_OF, known.number)
        if known.estimate is not None:
            self._writer.write(number, tr.ESTIMATE, known.estimate.to_dict())
        self._writer.write_targets(number, known.targets)
        if known.costs:
            self._writer.write_costs(number, known.costs)
        if known.score:
            self._writer.write(number, tr.SCORE, known.score.to_dict())
        reason = f"the same candidate as trial {known.number}"
        self._writer.constrain(number)
        if known.complete:
            values = self._writer.values(known)
            return self._writer.end(number, TrialState.COMPLETE, Outcome.DUPLICATE, reason, values)
        return self._writer.end(number, TrialState.PRUNED, Outcome.DUPLICATE, reason)
