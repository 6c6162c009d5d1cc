"""Stored trials under other models: predicted again in the shape that was trained, without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hw_latency_model import LatencyEstimate
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
    finished = [record for record in records if record.complete]
    first, *others = models
    shapes = trained_shapes(finished)
    latency = LatencyConstraint(space, num_classes, first, config.device.latency_budget_ms, shapes, others)
    on_device = [item for item in objectives if item.name in (ENERGY, MEMORY)]
    costs = CostConstraint(
        space, num_classes, on_device, load_cost_models(config, on_device), latency, config.device.precision
    )
    found = repredicted(finished, latency, costs)
    return found if keep_measured else [replace(record, measurement=None) for record in found]


def trained_shapes(
    records: Sequence[TrialRecord], otherwise: Callable[[Candidate], Plan | None] = lambda candidate: None
) -> Callable[[Candidate], Plan | None]:
    """Return a function of a candidate to the channels that its trial keeps, and to those of ``otherwise`` without a trained one."""
    channels = {record.candidate.id: record.channels for record in records if record.candidate and record.channels}
    return lambda candidate: channels.get(candidate.id) or otherwise(candidate)


def repredicted(
    records: Sequence[TrialRecord],
    latency: LatencyConstraint,
    costs: CostConstraint,
    on_targets: Callable[[Candidate], Mapping[str, LatencyEstimate]] = lambda candidate: {},
) -> list[TrialRecord]:
    """Return those records that have a candidate with latency, costs, and latency on further targets predicted now."""
    known = [(record, record.candidate) for record in records if record.candidate is not None]
    estimates = latency.estimate_many([candidate for _, candidate in known])
    return [
        replace(
            record,
            estimate=estimate,
            costs={**record.costs, **costs.costs(candidate)},
            targets={**record.targets, **on_targets(candidate)},
        )
        for (record, candidate), estimate in zip(known, estimates, strict=True)
    ]
