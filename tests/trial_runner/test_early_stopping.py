from __future__ import annotations

import math

import pytest

from objectives.objective import get_objective
from trial_runner.config.study import EarlyStoppingSection
from trial_runner.search.early_stopping import MultiObjectiveASHA


def rule(**changes: object) -> MultiObjectiveASHA:
    return MultiObjectiveASHA(
        EarlyStoppingSection.model_validate(
            {"rungs_epochs": [1, 3], "reduction_factor": 2.0, "min_trials": 3, **changes}
        )
    )


def test_nobody_is_stopped_before_enough_trials_reached_the_rung():
    r = rule()
    assert r.stop(0, 1, (0.9, 1.0)) is None
    assert r.stop(1, 1, (0.1, 9.0)) is None


def test_a_dominated_trial_in_the_worse_half_is_stopped_with_the_reason():
    r = rule()
    for number, miou in enumerate([0.5, 0.6, 0.7]):
        assert r.stop(number, 1, (miou, 5.0 - number)) is None
    reason = r.stop(3, 1, (0.2, 6.0))
    assert reason is not None and "epoch 1" in reason and "3 of 4" in reason


def test_a_small_fast_network_is_not_stopped_for_its_lower_miou():
    r = rule()
    for number, miou in enumerate([0.5, 0.6, 0.7]):
        r.stop(number, 1, (miou, 5.0))
    assert r.stop(3, 1, (0.1, 0.5)) is None


def test_networks_of_one_precision_are_compared_with_each_other():
    r = rule()
    for number in range(3):
        assert r.stop(number, 1, (0.7, 1.0), "int8") is None
    assert r.stop(3, 1, (0.6, 3.0), "fp32") is None
    reason = r.stop(4, 1, (0.2, 6.0), "int8")
    assert reason is not None and "3 of 4 trials in int8" in reason


def test_between_rungs_and_without_rungs_nobody_is_stopped():
    r = rule()
    for number in range(5):
        r.stop(number, 1, (0.9, 1.0))
    assert r.stop(6, 2, (0.0, 9.0)) is None
    assert rule(rungs_epochs=[]).stop(0, 1, (0.0, 9.0)) is None


def test_asking_twice_counts_once():
    r = rule(min_trials=3)
    for _ in range(5):
        assert r.stop(0, 1, (0.9, 1.0)) is None
        assert r.stop(1, 1, (0.1, 2.0)) is None


@pytest.mark.parametrize(("factor", "goes_on"), [(4.0, False), (2.0, True)])
def test_the_reduction_factor_is_the_share_that_goes_on(factor: float, goes_on: bool):
    r = rule(reduction_factor=factor, min_trials=4)
    for number, (miou, latency) in enumerate([(0.9, 1.0), (0.5, 3.0), (0.4, 4.0)]):
        r.stop(number, 1, (miou, latency))
    assert (r.stop(3, 1, (0.8, 2.0)) is None) == goes_on


def test_more_objectives_are_compared_each_in_its_own_direction():
    objectives = [get_objective(name) for name in ("val_miou", "latency_ms", "macs")]
    r = MultiObjectiveASHA(EarlyStoppingSection(rungs_epochs=[1], reduction_factor=2.0, min_trials=3), objectives)
    for number, macs in enumerate([9e6, 8e6, 7e6]):
        assert r.stop(number, 1, (0.5, 5.0, macs)) is None
    assert r.stop(3, 1, (0.1, 9.0, 1e6)) is None, "it is the smallest"
    reason = r.stop(4, 1, (0.1, 9.0, 9e6))
    assert reason is not None and "better in mIoU, latency and MACs" in reason and "MACs 9 M" in reason


def test_a_reading_that_lacks_a_value_stops_nobody():
    r = rule()
    for number in range(4):
        r.stop(number, 1, (0.9, 1.0))
    assert r.stop(4, 1, (math.nan, 9.0)) is None
