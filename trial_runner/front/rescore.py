"""Front of a study under the latency model of another device, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hw_latency_model.model.custom import PredictsLatency
from objectives.objective import ENERGY, MEMORY, Objective
from objectives.trial_record import TrialRecord
from search_spaces import SearchSpace
from search_spaces.candidate import Candidate
from search_spaces.pruning.prune import Plan
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.cost import CostConstraint, load_cost_models
from trial_runner.constraints.latency import LatencyConstraint


def rescored(
    records: Sequence[TrialRecord],
    space: SearchSpace,
    config: StudyConfig,
    models: Sequence[PredictsLatency],
    objectives: Sequence[Objective],
    *,
    num_classes: int,
    keep_measured: bool,
) -> list[TrialRecord]:
    """Return the finished trials with latency, energy and memory as predicted for the device of ``config``; accuracies stay.

    A trial's network is the one that was trained: its pruned shape is that of its record.

    Args:
        config: the study's configuration with the new device.
        models: latency models by precision, the one of ``device.precision`` first.
        num_classes: classes of the data.
        keep_measured: whether measurements of the records are of this device; they are dropped otherwise.

    Raises:
        UserError: energy is an objective and there is no model of it for this device.
    """
    finished = [record for record in records if record.complete and record.candidate is not None]
    channels = {record.candidate.id: record.channels for record in finished if record.candidate is not None}

    def trained_shape(candidate: Candidate) -> Plan | None:
        return channels.get(candidate.id)

    first, *others = models
    latency = LatencyConstraint(space, num_classes, first, config.device.latency_budget_ms, trained_shape, others)
    on_device = [item for item in objectives if item.name in (ENERGY, MEMORY)]
    costs = CostConstraint(
        space, num_classes, on_device, load_cost_models(config, on_device), latency, config.device.precision
    )
    candidates = [record.candidate for record in finished if record.candidate is not None]
    return [
        replace(
            record,
            estimate=estimate,
            costs={**record.costs, **costs.costs(candidate)},
            measurement=record.measurement if keep_measured else None,
        )
        for record, candidate, estimate in zip(finished, candidates, latency.estimate_many(candidates), strict=True)
    ]
