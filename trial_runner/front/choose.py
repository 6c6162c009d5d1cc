"""Choice of the network to deploy: the most accurate one that keeps a latency budget with enough probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import optuna

from objectives.trial_record import TrialRecord, store_later_facts

LEAST_PROBABILITY = 0.9


@dataclass(frozen=True)
class Choice:
    """A trial and the probability that it keeps the budget.

    Attributes:
        record: the trial.
        probability: 0 or 1 where its latency was measured.
    """

    record: TrialRecord
    probability: float


def budget_probability(record: TrialRecord, budget_ms: float) -> float | None:
    """Probability that a trial's latency is at most ``budget_ms``; None without a measurement or an estimate.

    A measurement decides. A prediction is taken as log-normal on each side of its value, with the quantiles of its interval.
    """
    if record.measured_ms is not None:
        return float(record.measured_ms <= budget_ms)
    estimate = record.estimate
    if estimate is None:
        return None
    bound = estimate.high_ms if budget_ms >= estimate.latency_ms else estimate.low_ms
    distance = math.log(budget_ms / estimate.latency_ms)
    spread = abs(math.log(bound / estimate.latency_ms)) / NormalDist().inv_cdf((1 + estimate.level) / 2)
    if spread == 0.0:
        return float(distance >= 0.0)
    return NormalDist().cdf(distance / spread)


def choose(
    records: Sequence[TrialRecord], budget_ms: float, least_probability: float = LEAST_PROBABILITY
) -> Choice | None:
    """Return the most accurate trained network that keeps the budget with ``least_probability``; None where there is none.

    Trials whose export failed, by its parity for example, or whose engine fails its check on the device, are no choice. Of equally
    accurate ones the faster is taken.
    """
    choices = []
    for record in records:
        probability = budget_probability(record, budget_ms)
        sound = not record.export_error and not record.unfit
        if record.complete and record.val_miou is not None and sound and probability is not None:
            choices.append(Choice(record, probability))
    kept = [choice for choice in choices if choice.probability >= least_probability]
    return max(
        kept, key=lambda choice: (choice.record.val_miou or 0.0, -(choice.record.latency_ms or math.inf)), default=None
    )


def mark_chosen(
    study: optuna.Study, records: Sequence[TrialRecord], choice: Choice, budget_ms: float, target: str | None = None
) -> None:
    """Store the choice with its trial, for report and dashboard, in place of an earlier one for the same target.

    Args:
        target: name of the target that it is for; None for the study's first one.
    """
    facts: dict[str, float | str] = {"budget_ms": budget_ms, "probability": choice.probability}
    facts |= {"target": target} if target else {}
    for record in records:
        kept = [item for item in record.choices if item.get("target") != target]
        kept += [facts] if record.number == choice.record.number else []
        if kept != list(record.choices):
            first = next((item for item in kept if "target" not in item), None)
            others = {str(item["target"]): item for item in kept if "target" in item}
            store_later_facts(study, record.number, chosen=first, chosen_targets=others)
