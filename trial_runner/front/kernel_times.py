"""Estimate of a candidate by the latency model as it is now, with its kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dashboards.study_report.inputs import WinnerKernels
from dashboards.text import over_budget
from hw_latency_model import LatencyEstimate
from hw_latency_model.kernels.runtimes import runtime_of
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord
from search_spaces._common.errors import UserError
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency_models import load_latency_models
from trial_runner.study.paths import StudyPaths
from trial_runner.study.trial_kernels import store_kernels, stored_kernels

if TYPE_CHECKING:
    from trial_runner.constraints.latency import LatencyConstraint
    from trial_runner.training.trial_spec import TrialSpec


def keep_kernels(spec: TrialSpec, gate: LatencyConstraint) -> None:
    """Store the kernels of an ordered trial's network in its folder, for `estimate_today`."""
    candidate, kernels = spec.candidate, gate.planned(spec.candidate, spec.channels).kernels
    store_kernels(spec.folder, candidate, spec.channels, gate.num_classes, gate.runtime(candidate), kernels)


def estimate_today(config: StudyConfig, record: TrialRecord, num_classes: int) -> LatencyEstimate | None:
    """Return the estimate with its kernels; None for a trial without a candidate or where the classes are not known.

    The kernels are those that the launch stored with the trial; without them the network is built, which loads torch.

    Raises:
        UserError: there is no latency model, or the space cannot be opened.
    """
    candidate = record.candidate
    if candidate is None or not num_classes:
        return None
    models = load_latency_models(config)
    model = models.get(candidate.precision or config.device.precision)
    if model is not None:
        runtime, paths = runtime_of(model.fingerprint), StudyPaths(config.study.output_dir)
        for number in (record.number, record.duplicate_of):
            if number is None:
                continue
            kernels = stored_kernels(paths.trial(number), candidate, record.channels, num_classes, runtime)
            if kernels is not None:
                return model.predict(kernels)
    from search_spaces import open_space
    from trial_runner.constraints.latency import LatencyConstraint

    first, *others = models.values()
    space, budget_ms = open_space(config.space), config.device.latency_budget_ms
    gate = LatencyConstraint(space, num_classes, first, budget_ms, lambda candidate: record.channels, others)
    return gate.estimate(candidate)


def winner_kernels(config: StudyConfig, front: ParetoFront, class_names: Sequence[str]) -> WinnerKernels | None:
    """Return the kernels of the chosen trial, else of the most accurate one within the budget; None where they are not known."""
    budget_ms = config.device.latency_budget_ms
    within = [record for record in front.records if not over_budget(record, front.objectives, budget_ms)]
    chosen = [record for record in within if record.chosen is not None] or within
    winner = max(chosen, key=lambda record: record.val_miou or 0.0, default=None)
    if winner is None:
        return None
    try:
        estimate = estimate_today(config, winner, len(class_names))
    except UserError:
        return None
    return WinnerKernels(winner.number, estimate) if estimate is not None and estimate.per_kernel else None
