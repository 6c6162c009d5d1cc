"""Estimate of a candidate by the latency model as it is now, with its kernels."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.study_report.inputs import WinnerKernels
from dashboards.text import over_budget
from hw_latency_model import LatencyEstimate
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord
from search_spaces import open_space
from search_spaces._common.errors import UserError
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.constraints.latency_models import load_latency_models


def estimate_today(config: StudyConfig, record: TrialRecord, num_classes: int) -> LatencyEstimate | None:
    """Return the estimate with its kernels; None for a trial without a candidate or where the classes are not known.

    Raises:
        UserError: there is no latency model, or the space cannot be opened.
    """
    if record.candidate is None or not num_classes:
        return None
    first, *others = load_latency_models(config).values()
    budget_ms = config.device.latency_budget_ms
    gate = LatencyConstraint(
        open_space(config.space), num_classes, first, budget_ms, lambda candidate: record.channels, others
    )
    return gate.estimate(record.candidate)


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
