"""Final trainings after the search: the next one of the plan, and the orders of trials to workers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from objectives.hypervolume import hypervolume
from objectives.objective import LATENCY, OBJECTIVES, Objective
from objectives.pareto import pareto_front, reference_point
from objectives.trial_record import EarlierTrial, Outcome, TrialRecord
from trial_runner.config.study import FinalTrainingSection, StudyConfig
from trial_runner.search.budget import epochs_seconds
from trial_runner.search.final_plan import FinalOption, FinalPlanner, PlannedTraining, observed_effect, total_gain
from trial_runner.study.paths import StudyPaths
from trial_runner.training.trial_spec import Continuation, RecordedCheckpoint, TrainedTrial, TrialSpec

_LEAST_HISTORY = 3
_MOST_FAILURES = 2


@dataclass(frozen=True)
class FinalTraining:
    """Next final training: further ``epochs`` of a finished trial."""

    record: TrialRecord
    epochs: int


def next_to_continue(
    records: Sequence[TrialRecord],
    budget_ms: float,
    config: FinalTrainingSection,
    objectives: Sequence[Objective] = OBJECTIVES,
    usable: Callable[[TrialRecord], bool] = lambda record: True,
    *,
    seconds: float = math.inf,
    slots: int = 1,
) -> FinalTraining | None:
    """Return the next final training, or None when there were enough, or none fits into the time.

    It is the first one of the plan with the largest expected gain of hypervolume (`FinalPlanner`). Plans begin with the most accurate
    network of the search's front, unless it was trained further before, or does not fit into the time. Trials whose predicted cost
    exceeds a budget are excluded, and so are those whose final training has failed twice.

    Args:
        usable: returns whether the weights of a trial are there.
        seconds: time left.
        slots: trainings that run side by side.
    """
    by_number = {record.number: record for record in records}
    trainings = FinalTrainings(records, budget_ms, config, objectives)
    while plan := trainings.plan(seconds, slots):
        record = by_number[plan[0].number]
        if usable(record):
            return FinalTraining(record, plan[0].epochs)
        trainings.exclude(record.number)
    return None


class FinalTrainings:
    """Plans of the final trainings that a study has still to do.

    With an adaptive split of the time (``time_share: auto``) a final training may be continued by another one, and networks
    that are superseded do not count as members.

    Args:
        records: all trials of the study.
        budget_ms: latency budget.
    """

    def __init__(
        self,
        records: Sequence[TrialRecord],
        budget_ms: float,
        config: FinalTrainingSection,
        objectives: Sequence[Objective],
    ) -> None:
        self._config, adaptive = config, config.time_share == "auto"
        by_number = {record.number: record for record in records}
        continued = {
            record.parent_trial: record
            for record in records
            if record.parent_trial is not None and record.outcome != Outcome.FAILED
        }
        limited = [item for item in objectives if item.available == "pre_training"]
        searched = [
            r
            for r in records
            if r.complete
            and r.parent_trial is None
            and (r.latency_ms or 0.0) <= budget_ms
            and all(item.violation(item.value(r)) <= 0 for item in limited)
        ]
        sized = [item.with_budget(budget_ms) if item.name == LATENCY.name else item for item in objectives]
        reference = reference_point(searched, objectives=sized)
        trained = [record for record in continued.values() if record.complete]
        present = [*searched, *trained]
        points = [[item.value(record) for item in sized] for record in present]
        self._planner = FinalPlanner(sized, reference, points, observed_effect(_effects(by_number, continued)))
        failures = Counter(record.parent_trial for record in records if record.outcome == Outcome.FAILED)
        left = [
            record
            for record in (present if adaptive else searched)
            if record.number not in continued and failures[record.number] < _MOST_FAILURES
        ]
        self._members = config.members if adaptive else config.members - len(continued)
        front = pareto_front(present if adaptive else searched, reference=reference, objectives=sized).records
        best = max((r for r in front if r.parent_trial is None), key=lambda r: r.val_miou or 0.0, default=None)
        self._first = best.number if best is not None and best in left else None
        if adaptive:
            still = {record.number for record in front}
            members = {
                _chain(record, by_number)[-1].number
                for record in continued.values()
                if not record.complete or record.number in still
            }
            if len(members) >= config.members:
                left = [record for record in left if _chain(record, by_number)[-1].number in members]
        options = [_option(record, sum(map(_epochs, _chain(record, by_number))), sized) for record in left]
        self._options = [option for option in options if option is not None]
        self._reference = [objective.sign * value for objective, value in zip(sized, reference, strict=True)]
        by_end = sorted(searched, key=lambda record: record.number)
        self._searched = [[objective.sign * objective.value(record) for objective in sized] for record in by_end]

    def exclude(self, number: int) -> None:
        """Plan without this trial."""
        self._options = [option for option in self._options if option.number != number]
        self._first = None if self._first == number else self._first

    def plan(self, seconds: float, slots: int) -> list[PlannedTraining]:
        """Return the plan for the time; empty where there were enough trainings, or none fits."""
        arguments: dict[str, Any] = {"seconds": seconds, "slots": slots, "members": self._members}
        arguments |= {"most_epochs": self._config.epochs}
        return self._planner.plan(self._options, **arguments, first=self._first) or self._planner.plan(
            self._options, **arguments
        )

    def worth_more_than_search(self, seconds: float, trial_s: float, slots: int) -> bool:
        """Return True if a search trial of ``trial_s`` seconds gains less hypervolume than it takes from the final trainings.

        The loss is that of the plan's expected gain.
        """
        gain = self._gain_of_a_trial()
        if gain is None:
            return False
        now, later = (total_gain(self.plan(left_s, slots)) for left_s in (seconds, seconds - trial_s / slots))
        return now - later > gain

    def gain_more_per_second(self, seconds: float, trial_s: float, slots: int) -> bool:
        """Return True if the next final training is expected to gain more hypervolume per second than a search trial."""
        gain, plan = self._gain_of_a_trial(), self.plan(seconds, slots)
        if gain is None or not plan:
            return False
        epoch_s = next(option.epoch_s for option in self._options if option.number == plan[0].number)
        return plan[0].gain * trial_s > gain * plan[0].epochs * epoch_s

    def _gain_of_a_trial(self) -> float | None:
        """Return the mean gain of hypervolume over the last third of the trials, at least three; None with too few."""
        count = max(_LEAST_HISTORY, len(self._searched) // 3)
        if len(self._searched) <= count:
            return None
        before, now = (hypervolume(part, self._reference) for part in (self._searched[:-count], self._searched))
        return (now - before) / count


def _chain(record: TrialRecord, by_number: Mapping[int, TrialRecord]) -> list[TrialRecord]:
    """Return a trial and those that it continues, the search trial last."""
    chain = [record]
    while chain[-1].parent_trial is not None:
        chain.append(by_number[chain[-1].parent_trial])
    return chain


def _epochs(record: TrialRecord) -> int:
    return record.score.epoch if record.score is not None else 0


def _option(record: TrialRecord, epochs: int, objectives: Sequence[Objective]) -> FinalOption | None:
    values = tuple(item.value(record) for item in objectives)
    if record.score is None or record.score.epoch < 1 or any(map(math.isnan, values)):
        return None
    return FinalOption(record.number, values, epochs, epochs_seconds(record.score, 1))


def _effects(
    by_number: Mapping[int, TrialRecord], continued: Mapping[int, TrialRecord]
) -> Iterator[tuple[float, float, int, int]]:
    """Yield accuracy before and after, and epochs before and after, of the final trainings that are done."""
    for number, after in sorted(continued.items()):
        base = by_number[number]
        if after.complete and base.score is not None and after.score is not None:
            before = sum(map(_epochs, _chain(base, by_number)))
            yield base.score.val_miou, after.score.val_miou, before, after.score.epoch


def spec_of(
    config: StudyConfig, paths: StudyPaths, record: TrialRecord, records: Sequence[TrialRecord] = ()
) -> TrialSpec:
    """Return the training order of a trial.

    Args:
        records: all trials of the study by number: the checkpoint of another trial that this one starts from, or learns from, is
            compared with its record. Empty: it is not compared.

    Raises:
        ValueError: the trial has no candidate.
    """
    if record.candidate is None:
        raise ValueError(f"trial {record.number} has no candidate")
    continues = None
    if record.parent_trial is not None and record.parent_epochs is not None:
        recorded = recorded_checkpoint(records[record.parent_trial]) if records else None
        continues = Continuation(record.parent_trial, paths.trial(record.parent_trial), record.parent_epochs, recorded)

    def trained(trial: EarlierTrial | None) -> TrainedTrial | None:
        if trial is None:
            return None
        # One that was stopped at a rung may train on, and replace its checkpoint, at any time.
        final = bool(records) and records[trial.number].complete
        recorded = recorded_checkpoint(records[trial.number]) if final else None
        return TrainedTrial(trial.number, paths.trial(trial.number), trial.candidate, recorded)

    folder = paths.trial(record.number)
    return TrialSpec(
        record.number,
        record.candidate,
        config,
        folder,
        paths.cache,
        continues,
        teacher=trained(record.teacher),
        relative=trained(record.relative),
        channels=record.channels,
    )


def recorded_checkpoint(record: TrialRecord) -> RecordedCheckpoint:
    """Return what a finished trial's checkpoint must agree with."""
    return RecordedCheckpoint(record.curve, record.checkpoint_sha256)


def best_teacher(records: Sequence[TrialRecord]) -> EarlierTrial | None:
    """Return the most accurate finished trial, as distillation teacher; None before the first one."""
    finished = [record for record in records if record.complete and record.candidate is not None]
    best = max(finished, key=lambda record: record.val_miou or 0.0, default=None)
    return EarlierTrial(best.number, best.candidate) if best and best.candidate else None
