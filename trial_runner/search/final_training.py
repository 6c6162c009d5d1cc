"""Fine-tuning of the front after the search: choice of its members, and their epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from objectives.objective import LATENCY, OBJECTIVES, Objective
from objectives.pareto import pareto_front, reference_point
from objectives.trial_record import EarlierTrial, Outcome, TrialRecord
from trial_runner.config.study import FinalTrainingSection, StudyConfig
from trial_runner.search.budget import OVERHEAD_FACTOR
from trial_runner.study.paths import StudyPaths
from trial_runner.training.trial_spec import Continuation, RecordedCheckpoint, TrainedTrial, TrialSpec

LEAST_EPOCHS = 3
"""Fewer epochs do not make up for restarting the learning rate."""


_MOST_FAILURES = 2


def next_to_continue(
    records: Sequence[TrialRecord],
    budget_ms: float,
    config: FinalTrainingSection,
    objectives: Sequence[Objective] = OBJECTIVES,
    usable: Callable[[TrialRecord], bool] = lambda record: True,
) -> TrialRecord | None:
    """Return the finished trial to train further next, or None when enough are: first the most accurate member of the search's front,
    then the one that adds most hypervolume. Trials whose predicted cost exceeds a budget are excluded, and so are those whose weights
    are not ``usable`` or whose final training has failed twice."""
    continued = {
        record.parent_trial
        for record in records
        if record.parent_trial is not None and record.outcome != Outcome.FAILED
    }
    failures = Counter(record.parent_trial for record in records if record.outcome == Outcome.FAILED)
    if len(continued) >= config.members:
        return None
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
    whole = pareto_front(searched, reference=reference, objectives=sized)
    front = list(whole.records)
    left = [
        record
        for record in front
        if record.number not in continued and failures[record.number] < _MOST_FAILURES and usable(record)
    ]
    if not left:
        return None
    best = max(front, key=lambda record: record.val_miou or 0.0)
    if best in left:
        return best

    def without(member: TrialRecord) -> float:
        rest = [record for record in front if record is not member]
        return pareto_front(rest, reference=reference, objectives=sized).hypervolume

    return max(left, key=lambda member: whole.hypervolume - without(member))


def epochs_that_fit(record: TrialRecord, config: FinalTrainingSection, seconds: float) -> int:
    """Return the number of further epochs that fit into ``seconds``, at most ``config.epochs``."""
    if record.score is None or record.score.epoch < 1:
        return 0
    epoch_s = OVERHEAD_FACTOR * record.score.train_s / record.score.epoch
    return config.epochs if epoch_s * config.epochs <= seconds else int(seconds / epoch_s)


def spec_of(config: StudyConfig, paths: StudyPaths, record: TrialRecord, base: TrialRecord | None = None) -> TrialSpec:
    """Return the training order of a trial.

    Args:
        base: record of the trial that a final training starts from, whose checkpoint is compared with it.

    Raises:
        ValueError: the trial has no candidate.
    """
    if record.candidate is None:
        raise ValueError(f"trial {record.number} has no candidate")
    continues = None
    if record.parent_trial is not None and record.parent_epochs is not None:
        recorded = recorded_checkpoint(base) if base is not None else None
        continues = Continuation(record.parent_trial, paths.trial(record.parent_trial), record.parent_epochs, recorded)

    def trained(trial: EarlierTrial | None) -> TrainedTrial | None:
        return TrainedTrial(trial.number, paths.trial(trial.number), trial.candidate) if trial else None

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
