"""The agent's measurement protocol: settings, statistics, drift and the number of runs."""

from __future__ import annotations

import pytest
from fake_board.harness import Kit, fake_onnx
from fake_board.tree import FakeBoard

from hw_latency_model.agent.errors import UserMistake
from hw_latency_model.agent.protocol import read_settings
from hw_latency_model.agent.statistics import half_drift, median_confidence, percentile


def test_confidence_is_that_of_the_median() -> None:
    wide = [10.0 + 0.1 * (index % 11) for index in range(40)]
    assert median_confidence(wide[:5]) == float("inf")
    assert median_confidence(wide * 20) < median_confidence(wide)
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert half_drift([[10.0], [10.0], [12.0], [12.0]]) == pytest.approx(0.2)


@pytest.mark.parametrize("change", [{"min_runs": "many"}, {"speed": 1}, {"max_s": -1}, {"warmup_s": True}])
def test_a_wrong_protocol_is_refused_by_name(change: dict[str, object]) -> None:
    with pytest.raises(UserMistake, match=next(iter(change))):
        read_settings(change)


def test_drift_of_the_reference_is_noticed(board: FakeBoard, kit: Kit) -> None:
    """The clock that the board shows stays, but everything gets slower: only the reference network can tell."""
    kit.write(
        {"net": fake_onnx(ms=5.0, spread=0.0)}, reference=fake_onnx(ms=3.0, spread=0.3), protocol={"max_repeats": 1}
    )
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert measured["noisy"] and measured["drift_rel"] > 0.02
    assert not measured["throttled"]
    assert "the reference network drifted" in " ".join(measured["reasons"])


def test_noise_takes_more_runs(board: FakeBoard, kit: Kit) -> None:
    kit.write(
        {"steady": fake_onnx(ms=1.0, spread=0.001), "noisy": fake_onnx(ms=1.0, spread=0.2)},
        protocol={"max_runs": 400, "confidence_rel": 0.01},
    )
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()
    assert measured["steady"]["runs"] == 20
    assert measured["noisy"]["runs"] > 100
    assert measured["noisy"]["confidence_rel"] <= 0.01 or measured["noisy"]["runs"] >= 400
