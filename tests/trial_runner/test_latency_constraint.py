"""The latency constraint itself, with latencies given in the place of a fitted model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from hw_latency_model import KernelSpec, LatencyEstimate
from hw_latency_model.kernels.table import KernelTable
from search_spaces import Candidate, SearchSpace, get_space
from trial_runner.constraints.latency import LatencyConstraint


@dataclass(frozen=True)
class GivenLatency:
    """A latency model that predicts the same for every network."""

    latency_ms: float
    low_ms: float
    high_ms: float
    precision: str = "fp32"
    calibrated: bool = False
    provenance: str = "given"
    fingerprint: dict[str, str] = field(default_factory=lambda: {"runtime": "onnxruntime"})

    def predict(self, kernels: Sequence[KernelSpec] | KernelTable) -> LatencyEstimate:
        return LatencyEstimate(self.latency_ms, self.low_ms, self.high_ms, coverage=1.0)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    options = {"families": ["lcnet"], "widths": [0.25], "resolutions_px": [(32, 64)], "precisions": ["fp32", "int8"]}
    return get_space("encoder_decoder", options)


@pytest.mark.parametrize(("budget_ms", "refused"), [(9.0, False), (8.0, False), (7.9, True)])
def test_only_an_interval_that_is_over_the_budget_as_a_whole_is_refused(
    space: SearchSpace, budget_ms: float, refused: bool
):
    gate = LatencyConstraint(space, 5, GivenLatency(10.0, 8.0, 13.0), budget_ms)
    reason = gate.violation_reason(gate.estimate(space.default()))
    expected = f"predicted 10.00 ms [8.00, 13.00]: even the low end is over the budget of {budget_ms:g} ms"
    assert reason == (expected if refused else None)


def test_a_candidate_is_judged_by_the_model_of_its_own_precision(space: SearchSpace):
    gate = LatencyConstraint(space, 5, GivenLatency(10, 8, 13), 7.0, others=[GivenLatency(5, 4, 8, precision="int8")])
    verdicts = {}
    for precision in ("fp32", "int8"):
        params = {**space.default().params, "precision": precision}
        estimate = gate.estimate(Candidate(space.name, space.version, params))
        verdicts[precision] = (estimate.latency_ms, gate.violation_reason(estimate) is None)
    assert verdicts == {"fp32": (10, False), "int8": (5, True)}
