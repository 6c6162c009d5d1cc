"""Trials of a study under the latency of one of its targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import optuna

from objectives.objective import ENERGY, LATENCY, MEMORY, Objective
from objectives.trial_record import TrialRecord, read_study
from search_spaces import open_space
from search_spaces._common.errors import UserError
from search_spaces._common.names import unknown_name
from search_spaces.candidate import Candidate
from trial_runner.config.study import StudyConfig
from trial_runner.study.objectives import CLASS_NAMES, stored_objectives

if TYPE_CHECKING:
    from search_spaces.pruning.prune import Plan


@dataclass(frozen=True)
class TargetView:
    """A study as seen by one target.

    Attributes:
        target: name of the target; None for the study's first one.
        records: all trials; for a further target with its latency in place of the first one's, and without measurements.
        budget_ms: latency budget of the target; infinite without one.
        objectives: objectives of its front; energy and memory are those of the first target, and of no other.
    """

    target: str | None
    records: list[TrialRecord]
    budget_ms: float
    objectives: tuple[Objective, ...]


def target_view(
    config: StudyConfig, study: optuna.Study, target: str | None = None, *, predict: bool = True
) -> TargetView:
    """Return the study's trials, budget and objectives for a target.

    Args:
        target: name of one of the study's targets; None for the first.
        predict: predict trained trials that have no latency on it, because it was added or calibrated after they were trained.

    Raises:
        UserError: the study has no such target, or no trial's latency on it is known and there is no model to predict it.
    """
    records, objectives = read_study(study, config.study.output_dir), stored_objectives(config, study)
    if target not in (None, *config.target_names):
        raise unknown_name("target of the study", target, config.target_names)
    if target is None or target == config.device.name:
        return TargetView(None, records, config.device.latency_budget_ms, objectives)
    alone = config.for_target(target)
    if predict and any(record.complete and target not in record.targets for record in records):
        records = with_target_latency(config, study, records, target)
    budget_ms = alone.device.latency_budget_ms
    budget = budget_ms if math.isfinite(budget_ms) else None
    kept = [item for item in objectives if item.name not in (ENERGY, MEMORY)]
    kept = [item.with_budget(budget) if item.name == LATENCY.name else item for item in kept]
    return TargetView(target, [on_target(record, target) for record in records], budget_ms, tuple(kept))


def on_target(record: TrialRecord, target: str) -> TrialRecord:
    """Return the record with its latency on a further target in place of the first one's."""
    return replace(record, estimate=record.targets.get(target), measurement=None, engine=None, engine_int8=None)


def with_target_latency(
    config: StudyConfig, study: optuna.Study, records: Sequence[TrialRecord], target: str
) -> list[TrialRecord]:
    """Return the records with the latency on a target predicted now for trained ones that lack it.

    Raises:
        UserError: there is no model to predict it, and no trained trial has it.
    """
    channels = {record.candidate.id: record.channels for record in records if record.candidate is not None}

    def trained_shape(candidate: Candidate) -> Plan | None:
        return channels.get(candidate.id)

    class_names = study.user_attrs.get(CLASS_NAMES, ())
    only = config.model_copy(update={"targets": [item for item in config.targets if item.name == target]})
    space = open_space(config.space)
    from trial_runner.constraints.target_latencies import (
        TargetLatencies,  # loads torch, which no study of one target needs here
    )

    latencies = TargetLatencies.load(only, space, len(class_names), trained_shape)
    found = [
        replace(record, targets={**latencies.estimates(record.candidate), **record.targets})
        if record.complete and record.candidate is not None and target not in record.targets
        else record
        for record in records
    ]
    if target in latencies.missing and not any(target in record.targets for record in found if record.complete):
        raise UserError(latencies.missing[target])
    return found
