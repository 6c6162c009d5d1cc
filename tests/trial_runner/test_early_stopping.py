from __future__ import annotations

import math

import numpy as np
import pytest

from hw_latency_model import LatencyEstimate
from objectives.objective import get_objective
from objectives.rung_reliability import Rung, RungReliability
from objectives.trial_record import Outcome, State, TrialRecord
from objectives.trial_score import TrialScore
from trial_runner.config.study import EarlyStoppingSection, SearchSection
from trial_runner.search.early_stopping import MultiObjectiveASHA, continuing, widened_factor


def rule(**changes: object) -> MultiObjectiveASHA:
    values = {"rungs_epochs": [1, 3], "reduction_factor": 2.0, "min_trials": 3, **changes}
    return MultiObjectiveASHA(SearchSection.model_validate({"early_stopping": values, "time_budget_minutes": 10}))


def test_nobody_is_stopped_before_enough_trials_reached_the_rung():
    r = rule()
    assert r.stop(0, Rung(1), (0.9, 1.0)) is None
    assert r.stop(1, Rung(1), (0.1, 9.0)) is None


def test_a_dominated_trial_in_the_worse_half_is_stopped_with_the_reason():
    r = rule()
    for number, miou in enumerate([0.5, 0.6, 0.7]):
        assert r.stop(number, Rung(1), (miou, 5.0 - number)) is None
    reason = r.stop(3, Rung(1), (0.2, 6.0))
    assert reason is not None and "epoch 1" in reason and "3 of 4" in reason


def test_a_small_fast_network_is_not_stopped_for_its_lower_miou():
    r = rule()
    for number, miou in enumerate([0.5, 0.6, 0.7]):
        r.stop(number, Rung(1), (miou, 5.0))
    assert r.stop(3, Rung(1), (0.1, 0.5)) is None


def test_networks_of_one_precision_are_compared_with_each_other():
    r = rule()
    for number in range(3):
        assert r.stop(number, Rung(1), (0.7, 1.0), "int8") is None
    assert r.stop(3, Rung(1), (0.6, 3.0), "fp32") is None
    reason = r.stop(4, Rung(1), (0.2, 6.0), "int8")
    assert reason is not None and "3 of 4 trials in int8" in reason


def test_between_rungs_and_without_rungs_nobody_is_stopped():
    r = rule()
    for number in range(5):
        r.stop(number, Rung(1), (0.9, 1.0))
    assert r.stop(6, Rung(2), (0.0, 9.0)) is None
    assert rule(rungs_epochs=[]).stop(0, Rung(1), (0.0, 9.0)) is None


def test_asking_twice_counts_once():
    r = rule(min_trials=3)
    for _ in range(5):
        assert r.stop(0, Rung(1), (0.9, 1.0)) is None
        assert r.stop(1, Rung(1), (0.1, 2.0)) is None


@pytest.mark.parametrize(("factor", "goes_on"), [(4.0, False), (2.0, True)])
def test_the_reduction_factor_is_the_share_that_goes_on(factor: float, goes_on: bool):
    r = rule(reduction_factor=factor, min_trials=4)
    for number, (miou, latency) in enumerate([(0.9, 1.0), (0.5, 3.0), (0.4, 4.0)]):
        r.stop(number, Rung(1), (miou, latency))
    assert (r.stop(3, Rung(1), (0.8, 2.0)) is None) == goes_on


def test_more_objectives_are_compared_each_in_its_own_direction():
    objectives = [get_objective(name) for name in ("val_miou", "latency_ms", "macs")]
    stopping = EarlyStoppingSection(rungs_epochs=[1], reduction_factor=2.0, min_trials=3)
    r = MultiObjectiveASHA(SearchSection(early_stopping=stopping), objectives)
    for number, macs in enumerate([9e6, 8e6, 7e6]):
        assert r.stop(number, Rung(1), (0.5, 5.0, macs)) is None
    assert r.stop(3, Rung(1), (0.1, 9.0, 1e6)) is None, "it is the smallest"
    reason = r.stop(4, Rung(1), (0.1, 9.0, 9e6))
    assert reason is not None and "better in mIoU, latency and MACs" in reason and "MACs 9 M" in reason


def test_a_reading_that_lacks_a_value_stops_nobody():
    r = rule()
    for number in range(4):
        r.stop(number, Rung(1), (0.9, 1.0))
    assert r.stop(4, Rung(1), (math.nan, 9.0)) is None


def paused(number: int) -> TrialRecord:
    return TrialRecord(number, State.RUNNING, None, Outcome.STOPPED, *[None] * 3, (), *[None] * 7)


def test_a_stopped_trial_is_promotable_once_enough_worse_ones_have_come():
    r = rule(reduction_factor=3.0, min_trials=3)
    for number, miou in enumerate([0.9, 0.8]):
        r.stop(number, Rung(1), (miou, 1.0))
    assert r.stop(2, Rung(1), (0.7, 1.0)) is not None
    r.pause(paused(2), 1)
    assert r.promotable() == []
    for number in range(3, 7):
        r.stop(number, Rung(1), (0.1, 2.0))
    assert r.promotable() == [2], "two of seven are better, and three continue"
    assert r.resume(2) == 1 and r.promotable() == []


def test_higher_rungs_come_before_better_ranks():
    r = rule(reduction_factor=2.0, min_trials=2)
    for epoch in (1, 3):
        for number, miou in enumerate([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]):
            r.stop(number, Rung(epoch), (miou, 1.0))
    for number, epoch in ((0, 1), (1, 1), (2, 3), (5, 3)):
        r.pause(paused(number), epoch)
    assert r.promotable() == [2, 0, 1]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1.0, [True] * 6), (2.0, [True] * 3 + [False] * 3), (3.0, [True] * 2 + [False] * 4), (6.0, [True] + [False] * 5)],
)
def test_the_share_that_continues(factor: float, expected: list[bool]):
    assert continuing(np.arange(6), factor).tolist() == expected
    assert continuing(np.zeros(6, dtype=int), factor).all(), "all of rank 0"


def test_a_rung_that_says_nothing_of_the_end_stops_fewer():
    trusted, wrong, between = (
        RungReliability(9, middle, low, high)
        for middle, low, high in ((0.6, 0.3, 0.8), (-0.5, -0.8, 0.0), (0.1, -0.2, 0.35))
    )
    assert widened_factor(3.0, None) == widened_factor(3.0, trusted) == 3.0
    assert widened_factor(3.0, wrong) == 1.0
    assert widened_factor(3.0, between) == pytest.approx(2.0)


def test_finished_trials_in_another_order_widen_the_rule_itself():
    def finished(number: int, early: float, late: float) -> TrialRecord:
        estimate = LatencyEstimate(latency_ms=1.0, low_ms=1.0, high_ms=1.0, coverage=1.0)
        score = TrialScore(late, 4, 4, 1, 1, 1.0, ())
        curve = ((1, early), (4, late))
        return TrialRecord(number, State.COMPLETE, None, Outcome.FINISHED, None, estimate, score, curve, *[None] * 7)

    for turned in (False, True):
        r = rule()
        r.restore([finished(n, 0.1 + 0.1 * n, (0.8 - 0.1 * n) if turned else 0.1 + 0.1 * n) for n in range(8)])
        stopped = r.stop(8, Rung(1), (0.05, 2.0))
        assert (stopped is None) == turned


def test_a_rung_in_time_is_reached_at_the_first_evaluation_after_its_share_of_the_budget():
    r = rule(rungs_epochs=[], rungs_time_shares=[0.01, 0.05])  # 6 and 30 s of ten minutes
    cheap, costly = 2.0, 20.0
    assert [r.rung_at(0, epoch, cheap) for epoch in (1, 2)] == [None, None]
    assert r.rung_at(0, 3, cheap) == Rung(seconds=6.0)
    assert r.rung_at(1, 1, costly) == Rung(seconds=6.0) and r.rung_at(1, 2, costly) == Rung(seconds=30.0)
    r.stop(0, Rung(seconds=6.0), (0.5, 1.0))
    assert r.rung_at(0, 4, cheap) is None, "each rung is passed once"


def test_trials_are_compared_after_equal_times_of_training():
    r = rule(rungs_epochs=[], rungs_time_shares=[0.01, 0.05])
    for number, (epoch, epoch_s) in enumerate([(3, 2.0), (3, 2.0), (1, 6.0)]):
        found = r.rung_at(number, epoch, epoch_s)
        assert found is not None and r.stop(number, found, (0.5, 1.0)) is None
    costly = r.rung_at(3, 1, 40.0)
    assert costly == Rung(seconds=30.0), "one epoch passes both rungs"
    assert r.stop(3, costly, (0.1, 9.0)) is None, "nothing else has come so far"
    late = r.stop(4, Rung(seconds=6.0), (0.05, 9.5))
    assert late is not None and late.startswith("after 6 s of training 4 of 5 trials were better")


def test_rungs_in_time_are_restored_from_the_records_of_an_earlier_launch():
    estimate = LatencyEstimate(latency_ms=1.0, low_ms=1.0, high_ms=1.0, coverage=1.0)
    records = []
    for number in range(3):
        score = TrialScore(0.5, 4, 4, 1, 1, 8.0, ())
        curve = tuple((epoch, 0.1 * epoch) for epoch in range(1, 5))
        records.append(
            TrialRecord(number, State.COMPLETE, None, Outcome.FINISHED, None, estimate, score, curve, *[None] * 7)
        )
    r = rule(rungs_epochs=[], rungs_time_shares=[0.01])
    r.restore(records)
    assert r.rung_at(0, 4, 2.0) is None
    reason = r.stop(3, Rung(seconds=6.0), (0.29, 2.0))
    assert reason is not None and "3 of 4 trials" in reason, "the others had 0.3 after three epochs of 2 s"
    assert r.stop(4, Rung(seconds=6.0), (0.31, 2.0)) is None
