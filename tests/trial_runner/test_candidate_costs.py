"""Costs of candidates as `known_cost` sees them: those of the constraints, in one batch, once for each architecture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hw_latency_model.bundled.load import load_bundled
from objectives.objective import OBJECTIVES, get_objective
from search_spaces import get_space
from trial_runner.constraints.cost import CostConstraint
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.search.candidate_costs import LARGEST_DEVIATION, CandidateCosts

OPTIONS = {"families": ["lcnet"], "decoders": ["fpn"], "widths": [0.25, 0.5], "resolutions_px": [(32, 64)]}


@pytest.fixture(scope="module")
def parts():
    space = get_space("encoder_decoder", OPTIONS)
    gate = LatencyConstraint(space, 14, load_bundled("jetson-nano", "fp16"), 20.0)
    objectives = (*OBJECTIVES, get_objective("parameters", budget=1e6))
    return space, gate, CandidateCosts(space, gate, objectives, CostConstraint(space, 14, objectives, [], gate))


def test_a_batch_has_what_the_constraints_predict_of_each_candidate(parts):
    space, gate, costs = parts
    rng = np.random.default_rng(0)
    candidates = [space.sample(rng) for _ in range(4)]
    rows = costs([item.params for item in candidates])
    known = costs.known()
    assert known.objectives == {1: 0, 2: 3} and known.budgets == {0: 20.0, 3: 1e6}
    for candidate, row in zip(candidates, rows, strict=True):
        assert row[0] == pytest.approx(gate.estimate(candidate).latency_ms)
        assert row[1] == pytest.approx(gate.macs(candidate))
        assert row[2] > 0 and row[3] > 1000
        assert 0 < row[known.deviations[0]] <= LARGEST_DEVIATION * row[0] * (1 + 1e-9)
    assert known.informative(rows).shape == (4, 4)


def test_candidates_that_differ_in_the_training_alone_are_predicted_once(parts):
    space, _, costs = parts
    first = space.default()
    rate = next(axis for axis in space.dimensions if axis.name == "learning_rate")
    same = {**first.params, "learning_rate": rate.low}
    other = {**first.params, "width": 0.5 if first.params["width"] == 0.25 else 0.25}
    assert costs.architecture(first.params) == costs.architecture(same) != costs.architecture(other)


def test_a_narrow_interval_is_taken_as_it_is(parts, monkeypatch: pytest.MonkeyPatch):
    space, gate, costs = parts
    narrow = replace(gate.estimate(space.default()), latency_ms=10.0, low_ms=9.5, high_ms=10.5, level=0.9)
    monkeypatch.setattr(gate, "estimate_many", lambda candidates: [narrow] * len(candidates))
    row = costs([space.default().params])[0]
    assert row[costs.known().deviations[0]] == pytest.approx(0.5 / 1.645, rel=1e-3)
