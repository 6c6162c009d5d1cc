"""The search loop of a study: ask, check constraints, train, stop, record. Independent of the execution backend."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import optuna
from optuna.trial import TrialState

from hw_latency_model import LatencyEstimate
from objectives import trial_record as tr
from objectives.objective import LATENCY, Objective, budget_texts, intermediate_values
from objectives.record_cache import RecordCache
from objectives.rung_reliability import Rung
from objectives.trial_record import Outcome, State, TrialRecord
from search_spaces import SearchSpace
from search_spaces._common.errors import UserError
from search_spaces._common.machine import node_name
from search_spaces.candidate import Candidate
from trial_runner.config.study import SearchSection, StudyConfig
from trial_runner.constraints.cost import CostConstraint
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.search.budget import StudyBudget, epochs_seconds
from trial_runner.search.early_stopping import MultiObjectiveASHA, rungs_of
from trial_runner.search.final_scheduler import FinalScheduler
from trial_runner.search.final_training import FinalTraining, spec_of
from trial_runner.search.initial_design import stratified_by_latency
from trial_runner.search.proposals import Proposals
from trial_runner.study.objectives import stored_objectives
from trial_runner.study.paths import StudyPaths
from trial_runner.study.patience import DatabaseAwayError, Patience
from trial_runner.study.writer import StudyWriter
from trial_runner.training.checkpoint import checkpoint_sha256
from trial_runner.training.trial_spec import CHECKPOINT, Progress, TrialSpec
from trial_runner.training.write_fence import WriteFence

logger = logging.getLogger("paretoseg")

_FREE_PROPOSALS = 300
_FAILURES_IN_A_ROW = 5
_AWAY_S = 0.5


class StudyDriver:
    """Driver of one launch of a study.

    Args:
        on_finished: called with the record of each trial that ended in this launch, including infeasible ones.
        plan_of: returns the channels that each group of a candidate keeps; None for the same ratio in each group.
        costs: constraints on costs other than latency; None where no objective needs them.
        on_start: called once, before the first trial is asked for.
        initial: candidates that a new study begins with, before its initial design.
        before_trial: called before a trial is chosen; raises UserError where none may start.
        clock: seconds, for the time budget; a simulation passes its own.
        fence: right to write checkpoints, passed on with each order.
        patience: of the study's storage; reports wait in memory while its database is away, and trials train on.
        on_trial: called with each order that is given to a worker.
        on_progress: called with each report of a worker.
        latency_on_targets: returns a candidate's latency on the further targets, by their name.
        make_rule: makes the early-stopping rule; by default multi-objective ASHA as configured.
    """

    def __init__(
        self,
        config: StudyConfig,
        study: optuna.Study,
        space: SearchSpace,
        gate: LatencyConstraint,
        paths: StudyPaths,
        on_finished: Callable[[TrialRecord], None] = lambda record: None,
        plan_of: Callable[[Candidate], Mapping[str, int] | None] = lambda candidate: None,
        costs: CostConstraint | None = None,
        on_start: Callable[[], None] = lambda: None,
        initial: Sequence[Candidate] = (),
        before_trial: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = lambda: time.monotonic(),
        fence: WriteFence | None = None,
        patience: Patience | None = None,
        on_trial: Callable[[TrialSpec], None] = lambda spec: None,
        on_progress: Callable[[int, Progress], None] = lambda number, progress: None,
        latency_on_targets: Callable[[Candidate], Mapping[str, LatencyEstimate]] = lambda candidate: {},
        make_rule: Callable[[SearchSection, Sequence[Objective]], MultiObjectiveASHA] = MultiObjectiveASHA,
    ) -> None:
        self._on_trial, self._on_progress = on_trial, on_progress
        self._patience = patience or Patience(0.0, str)
        self._backlog: deque[Callable[[], TrialRecord | None]] = deque()
        self._fence = fence
        self._before_trial = before_trial
        self._config, self._study, self._space, self._gate, self._paths = config, study, space, gate, paths
        self._on_finished = on_finished
        self._on_start: Callable[[], None] | None = on_start
        self._objectives = stored_objectives(config, study)
        self._make_rule = make_rule
        self._budget = StudyBudget(config.search, clock)
        self._writer = StudyWriter(study, self._objectives, gate.budget_ms)
        self._records = RecordCache(study).read
        self._finals = FinalScheduler(
            config, self._budget, self._records, gate.budget_ms, self._objectives, self._has_weights
        )
        self._last: dict[int, Progress] = {}
        self._nodes: dict[int, str] = {}
        self._stop_reason: dict[int, str] = {}
        self._failures, self._last_failure = 0, ""
        self._without_weights: set[int] = set()
        self._stopped_at: dict[int, int] = {}
        self._in_progress: set[int] = set()
        self._slots = 1
        self.ended: str | None = None
        self._writer.recover_stale_trials(self._may_be_resumed)
        self._proposals = Proposals(
            config,
            study,
            space,
            gate,
            paths,
            self._writer,
            self._budget,
            self._records,
            plan_of,
            costs,
            latency_on_targets,
        )
        self.restore()
        if not self._records():
            self._enqueue_initial_design(initial)

    def restore(self) -> None:
        """Take rungs and known candidates from the study, as at the start; again after its predictions were replaced."""
        self._rule = self._make_rule(self._config.search, self._objectives)
        records = self._records()
        self._rule.restore(records)
        for record in records:
            if record.paused and record.score is not None:
                self._rule.pause(record, record.score.epoch)
            if record.outcome:
                self._proposals.note(record)

    def _enqueue_initial_design(self, initial: Sequence[Candidate]) -> None:
        search = self._config.search
        first = [*initial, *([self._space.default()] if search.start_with_default else [])]
        if search.start == "spread":
            count = search.startup_trials - len(first)
            first += stratified_by_latency(self._space, self._gate, count, seed=self._config.study.seed)
        for candidate in first:
            self._proposals.enqueue(candidate)

    # -- proposals

    def ask(self) -> TrialSpec | None:
        """Return the next trial to train, or None when the budget of trials or time is spent.

        Stopped trials that are promoted come first, then requeued trials of an earlier launch, with their number, params and
        checkpoint. Infeasible and duplicate proposals are reported to Optuna, and the sampler is asked again.

        Raises:
            UserError: nothing within the budget can be found, every trial fails, or ``before_trial`` raises it.
        """
        while not self.catch_up():
            time.sleep(_AWAY_S)
        if self._on_start is not None:
            on_start, self._on_start = self._on_start, None
            on_start()
        promoted = self._promote()
        if promoted is not None:
            self._before_trial()
            return self._spec(promoted)
        for proposal in range(_FREE_PROPOSALS):
            over = self._over()
            if over and not self._enqueue_final(self._finals.after_search(self._slots)):
                return None
            if not over and proposal == 0:
                self._enqueue_final(self._finals.during_search(self._slots))
            if proposal == 0:
                self._before_trial()
            with self._writer.batch():
                number, ended = self._proposals.propose()
            if ended is None:
                return self._spec(number)
            self._announce(ended)
        raise self._nothing_fits()

    def _promote(self) -> int | None:
        """Resume the stopped trial whose rank warrants it most, if its remaining epochs fit into the time; return its number."""
        for number in self._rule.promotable():
            score = self._writer.record(number).score
            if (
                score is not None
                and epochs_seconds(score, score.epochs_total - score.epoch) <= self._budget.search_left_s
            ):
                self._writer.resume(number, self._rule.resume(number))
                self._stop_reason.pop(number, None)
                return number
        return None

    def _may_be_resumed(self, record: TrialRecord) -> bool:
        """Return True for a trial that was stopped at one of the rungs of now, in a study that promotes."""
        rungs = rungs_of(self._config.search) if self._promotes and record.score is not None else ()
        return any(rung.epoch_of(record) == record.score.epoch for rung in rungs if record.score is not None)

    @property
    def _promotes(self) -> bool:
        return self._config.search.early_stopping.promote

    def _over(self) -> bool:
        self._finals.split_time(self._slots)
        trials = self._study.get_trials(deepcopy=False)
        if any(trial.state == TrialState.WAITING for trial in trials):
            return False
        counted = sum(
            trial.state == TrialState.RUNNING
            or trial.user_attrs.get(tr.OUTCOME) in (Outcome.FINISHED, Outcome.STOPPED, Outcome.FAILED)
            for trial in trials
            if tr.PARENT_TRIAL not in trial.user_attrs
        )
        self.ended = self._budget.spent(counted)
        return self.ended is not None

    def _enqueue_final(self, chosen: FinalTraining | None) -> bool:
        """Make a final training the next trial; False for none."""
        if chosen is None or chosen.record.candidate is None:
            return False
        attrs = {tr.PARENT_TRIAL: chosen.record.number, tr.PARENT_EPOCHS: chosen.epochs}
        self._proposals.enqueue(chosen.record.candidate, attrs)
        return True

    def _has_weights(self, record: TrialRecord) -> bool:
        """Return True if the checkpoint that a record is of is there."""
        if record.checkpoint_sha256 is None:
            return True  # of an earlier release: its curve is compared where it is loaded
        usable = checkpoint_sha256(self._paths.trial(record.number) / CHECKPOINT) == record.checkpoint_sha256
        if not usable and record.number not in self._without_weights:
            self._without_weights.add(record.number)
            logger.warning(
                "trial %d is not trained further: the checkpoint that it was scored with is gone", record.number
            )
        return usable

    # -- progress and end of a trial

    def progress(self, number: int, progress: Progress) -> bool:
        """Record an evaluation, and all earlier ones not recorded yet; True when the trial is to be stopped.

        While the database is away the report waits in memory, and the trial goes on.
        """
        self._last[number] = progress
        self._on_progress(number, progress)
        self._backlog.append(lambda: self._record_progress(number, progress))
        self.catch_up()
        return number in self._stop_reason and not progress.score.final

    def _record_progress(self, number: int, progress: Progress) -> None:
        with self._writer.batch():
            self._store_progress(number, progress)

    def _store_progress(self, number: int, progress: Progress) -> None:
        self._note_node(number, progress.node)
        self._writer.add_to_curve(number, progress.curve)
        record = self._writer.record(number)
        if record.parent_trial is not None:
            return
        if progress.score.cached_epochs:
            self._rule.restore([record])  # the rungs of the epochs that it took over
        if progress.score.final:
            return
        rung = self._rule.rung_at(number, progress.epoch, progress.score.train_s / progress.epoch)
        if progress.epoch <= (record.resumed_at or 0):
            rung = None
        reason = self._stop_reason_at_rung(number, progress, rung) if rung is not None else None
        if reason is not None and self._promotes:
            self._stopped_at[number] = progress.epoch
        if reason is None and self._budget.search_left_s < 0:
            reason = "the study's time budget was spent"
        if reason is not None:
            self._stop_reason[number] = reason

    def _note_node(self, number: int, node: str) -> None:
        """Store the machine that a trial runs on, when it has changed; none for the driver's own."""
        if node and node != self._nodes.get(number) and node != node_name():
            self._writer.write(number, tr.NODE, node)
        self._nodes[number] = node

    def _stop_reason_at_rung(self, number: int, progress: Progress, rung: Rung) -> str | None:
        """Store the score at a rung, for later launches, and apply the early-stopping rule."""
        record = self._writer.record(number)
        rung_scores = dict(record.rung_scores) | {progress.epoch: progress.score}
        self._writer.write(number, tr.RUNG_SCORES, [score.to_dict() for _, score in sorted(rung_scores.items())])
        values = intermediate_values(self._objectives, replace(record, score=progress.score))
        precision = record.candidate.precision if record.candidate else None
        return self._rule.stop(number, rung, values, precision)

    def finish(self, number: int, failure: str | None = None) -> None:
        """Record the end of a trial: COMPLETE when trained to the end, PRUNED when stopped, FAIL with the reason."""
        self._in_progress.discard(number)
        self._backlog.append(lambda: self._record_end(number, failure))
        self.catch_up()

    def catch_up(self) -> bool:
        """Record the reports that wait for the database; True when none is left.

        Raises:
            UserError: every trial fails, the database has been away for too long, or another driver has the study.
        """
        while self._backlog:
            try:
                with self._patience.brief():
                    ended = self._backlog[0]()
            except DatabaseAwayError:
                return False
            except Exception:
                self._backlog.popleft()
                raise
            self._backlog.popleft()
            if ended is not None:
                self._announce(ended)
                self._require_some_success()
        return True

    def ready(self) -> bool:
        """Record what waits for the database; False while it does not answer."""
        if not self.catch_up():
            return False
        try:
            with self._patience.brief():
                self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        except DatabaseAwayError:
            return False
        return True

    def _record_end(self, number: int, failure: str | None) -> TrialRecord:
        with self._writer.batch():
            return self._store_end(number, failure)

    def _store_end(self, number: int, failure: str | None) -> TrialRecord:
        stored = self._writer.record(number)
        if stored.state not in (State.RUNNING, State.WAITING):
            return stored  # ended by a write whose answer was lost
        progress = self._last.get(number)
        values, missing = None, None
        if progress is not None:
            self._writer.write(number, tr.SCORE, progress.score.to_dict())
            if progress.checkpoint_sha256 is not None:
                self._writer.write(number, tr.CHECKPOINT_SHA256, progress.checkpoint_sha256)
        if progress is not None and progress.score.final:  # even if the worker died afterwards
            record = self._writer.record(number)
            values, missing = self._writer.values(record), self._writer.missing_objectives(record)
        if values is not None and missing is None:
            self._writer.constrain(number)
            record = self._writer.end(number, TrialState.COMPLETE, Outcome.FINISHED, None, values)
            self._failures = 0
        elif number in self._stop_reason:
            record = self._record_stop(number, self._stop_reason[number])
            self._failures = 0
        else:
            reason = missing or failure or "ended without a result"
            record = self._writer.end(number, TrialState.FAIL, Outcome.FAILED, reason)
            self._failures += 1
            self._last_failure = reason
        return record

    def _require_some_success(self) -> None:
        if self._failures >= _FAILURES_IN_A_ROW:
            raise UserError(
                f"{self._failures} trials in a row failed, the last one because: {self._last_failure}. "
                "The study is kept; put this right and run the same command again."
            )

    def _record_stop(self, number: int, reason: str) -> TrialRecord:
        """Stop a trial for good, or keep it for promotion; return its record."""
        epoch = self._stopped_at.get(number)
        if epoch is None:
            return self._writer.end(number, TrialState.PRUNED, Outcome.STOPPED, reason)
        record = self._writer.pause(number, reason)
        del self._stopped_at[number]
        self._rule.pause(record, epoch)
        return record

    def requeue_running(self) -> None:
        """Requeue running trials (WAITING); the next launch resumes them from their checkpoints.

        Trials that were stopped at a rung can be resumed by the next launch if this one was interrupted; after its end they are
        stopped for good.
        """
        while not self.catch_up():
            time.sleep(_AWAY_S)
        self._writer.recover_stale_trials(self._may_be_resumed if self.ended is None else lambda record: False)

    # -- plumbing

    def _announce(self, record: TrialRecord) -> None:
        self._rule.finished(record)
        self._proposals.note(record)
        self._on_finished(record)

    def _nothing_fits(self) -> UserError:
        others = budget_texts([o for o in self._objectives if o.available == "pre_training" and o.name != LATENCY.name])
        return UserError(
            f"{_FREE_PROPOSALS} proposals in a row were refused or had been tried before: hardly a network of this space keeps "
            f"{' and '.join([f'{self._gate.budget_ms:g} ms', *others])}. Raise device.latency_budget_ms"
            f"{' or the budgets of objectives' if others else ''}, or offer smaller space.widths and space.resolutions_px."
        )

    def _spec(self, number: int) -> TrialSpec:
        self._in_progress.add(number)
        self._slots = max(self._slots, len(self._in_progress))
        record = self._writer.record(number)
        spec = replace(spec_of(self._config, self._paths, record, self._records()), fence=self._fence)
        self._on_trial(spec)
        return spec
