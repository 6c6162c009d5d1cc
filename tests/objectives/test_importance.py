"""Importance of dimensions on made studies whose causes are known."""

from __future__ import annotations

import numpy as np

from hw_latency_model.types import LatencyEstimate
from objectives.importance import LEAST_TRIALS, importances
from objectives.objective import LATENCY, MIOU
from objectives.trial_record import Outcome, State, TrialRecord
from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate


def trial(number: int, params: dict, miou: float, latency_ms: float, *, trained: bool = True) -> TrialRecord:
    return TrialRecord(
        number=number,
        state=State.COMPLETE if trained else State.PRUNED,
        candidate=Candidate("encoder_decoder", 1, params),
        outcome=Outcome.FINISHED if trained else Outcome.INFEASIBLE,
        reason=None,
        estimate=LatencyEstimate(latency_ms, latency_ms, latency_ms, 1.0),
        score=TrialScore(miou, 1, 1, 1, 1, 1.0, ()) if trained else None,
        curve=(),
        measurement=None,
        bundle=None,
        export_error=None,
        duplicate_of=None,
        parent_trial=None,
        parent_epochs=None,
        duration_s=1.0,
    )


def study(count: int, *, trained: bool = True) -> list[TrialRecord]:
    rng = np.random.default_rng(0)
    records = []
    for number in range(count):
        width, family = float(rng.choice([0.25, 0.5, 1.0])), str(rng.choice(["a", "b"]))
        rate, decay = float(10 ** rng.uniform(-4, -2)), float(10 ** rng.uniform(-6, -3))
        params = {"width": width, "family": family, "learning_rate": rate, "weight_decay": decay}
        miou = 0.3 * width - 0.1 * (np.log10(rate) + 3) ** 2 + rng.normal(0, 0.01)
        records.append(trial(number, params, miou, 5 * width * (1.5 if family == "a" else 1.0), trained=trained))
    return records


def test_the_causes_are_found_and_chance_is_not():
    found = {item.name: item for item in importances(study(300), MIOU)}
    assert next(iter(found)) == "width" and found["learning_rate"].share > 0.02
    assert found["learning_rate"].low > found["weight_decay"].high / 2 and found["weight_decay"].low == 0.0
    assert all(0 <= item.low <= item.share <= item.high <= 1 for item in found.values())
    few = {item.name: item for item in importances(study(40), MIOU)}
    assert few["width"].high - few["width"].low > found["width"].high - found["width"].low


def test_the_training_cannot_matter_for_a_predicted_cost_and_refused_networks_count():
    found = importances(study(60, trained=False), LATENCY)
    assert [item.name for item in found] == ["width", "family"]
    assert found[0].share + found[1].share > 0.9
    assert importances(study(60, trained=False), MIOU) == []
    assert importances(study(LEAST_TRIALS - 1), LATENCY) == []
