"""Choice of final trainings by expected hypervolume gain in the time left: a pure function."""

from __future__ import annotations

import math

import pytest

from objectives.objective import OBJECTIVES
from trial_runner.search.final_plan import FinalOption, FinalPlanner, TrainingEffect, observed_effect

REFERENCE = (0.0, 12.0)
SURE = TrainingEffect(0.2, 0.0)


def option(number: int, miou: float, ms: float, epoch_s: float = 1.0) -> FinalOption:
    return FinalOption(number, (miou, ms), 10, epoch_s)


def planner(options: list[FinalOption], effect: TrainingEffect = SURE) -> FinalPlanner:
    return FinalPlanner(OBJECTIVES, REFERENCE, [item.values for item in options], effect)


def test_the_gain_is_the_area_that_the_trained_network_adds():
    options = [option(0, 0.5, 2.0)]
    (found,) = planner(options).plan(options, seconds=math.inf, members=1, most_epochs=10)
    assert (found.number, found.epochs) == (0, 10)
    assert found.gain == pytest.approx(0.2 * 0.25 * 10.0), "one doubling: a fifth of m (1 - m), over ten milliseconds"


def test_the_network_that_adds_most_is_chosen_and_not_the_most_accurate():
    options = [option(0, 0.6, 11.0), option(1, 0.5, 3.0)]
    found = planner(options).plan(options, seconds=math.inf, members=1, most_epochs=10)
    assert [item.number for item in found] == [1]
    forced = planner(options).plan(options, seconds=math.inf, members=2, most_epochs=10, first=0)
    assert [item.number for item in forced] == [0, 1]


def test_a_network_behind_another_gains_less_than_one_beside_it():
    options = [option(0, 0.5, 3.0), option(1, 0.49, 3.1), option(2, 0.4, 1.0)]
    found = planner(options).plan(options, seconds=math.inf, members=2, most_epochs=10)
    assert [item.number for item in found] == [0, 2]


def test_what_does_not_fit_into_the_time_is_not_chosen():
    slow, fast = option(0, 0.5, 3.0, epoch_s=10.0), option(1, 0.4, 1.0, epoch_s=1.0)
    plan = planner([slow, fast]).plan
    assert [item.number for item in plan([slow, fast], seconds=25.0, members=1, most_epochs=10)] == [1]
    (found,) = plan([slow, fast], seconds=200.0, members=1, most_epochs=10)
    assert (found.number, found.epochs) == (0, 10)
    assert plan([slow], seconds=29.0, members=1, most_epochs=10) == []
    assert plan([slow], seconds=31.0, members=1, most_epochs=10)[0].epochs == 3


def test_little_time_goes_to_one_network_and_more_to_two():
    options = [option(0, 0.5, 6.0), option(1, 0.4, 1.0)]
    short = planner(options).plan(options, seconds=5.0, members=2, most_epochs=100)
    assert [item.epochs for item in short] == [5]
    both = planner(options).plan(options, seconds=60.0, members=2, most_epochs=100)
    assert [item.epochs for item in both] == [30, 30]


def test_trainings_side_by_side_share_no_time():
    options = [option(0, 0.5, 3.0), option(1, 0.4, 1.0)]
    found = planner(options).plan(options, seconds=30.0, members=2, most_epochs=100, slots=2)
    assert [item.epochs for item in found] == [30, 30]


def test_an_uncertain_effect_gives_networks_just_behind_the_front_a_chance():
    options = [option(0, 0.50, 3.0), option(1, 0.495, 3.0)]
    beside = planner(options, TrainingEffect(0.0, 0.2)).plan(options, seconds=math.inf, members=2, most_epochs=10)
    assert all(item.gain > 0 for item in beside) and len(beside) == 2


def test_the_effect_is_learnt_from_the_final_trainings_of_the_study():
    assert observed_effect([]) == TrainingEffect()
    strong = observed_effect([(0.4, 0.6, 10, 30)] * 8)
    none = observed_effect([(0.4, 0.4, 10, 30)] * 8)
    assert none.mean < TrainingEffect().mean < strong.mean
    assert none.mean == pytest.approx(0.03) and strong.mean < 0.41
