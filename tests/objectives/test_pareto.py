"""Ranks, fronts and hypervolumes, against brute force and against Optuna's own."""

from __future__ import annotations

import itertools
import math

import numpy as np
import optuna
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from optuna._hypervolume import compute_hypervolume
from optuna.trial import TrialState
from sample_measurement import sample_measurement

from objectives import trial_record as tr
from objectives.objective import OBJECTIVES
from objectives.pareto import (
    MEASURED_LATENCY,
    MIOU,
    hypervolume_2d,
    hypervolume_history,
    non_dominated_rank,
    pareto_front,
    reference_point,
)
from objectives.trial_score import TrialScore

# Small integers make ties and duplicates the rule.
points = hnp.arrays(np.float64, st.tuples(st.integers(0, 14), st.integers(1, 3)), elements=st.integers(0, 6).map(float))
points_2d = hnp.arrays(np.float64, st.tuples(st.integers(0, 14), st.just(2)), elements=st.integers(0, 6).map(float))


def brute_force_ranks(values):
    ranks, left, rank = {}, set(range(len(values))), 0
    while left:
        front = {
            i
            for i in left
            if not any(
                all(a <= b for a, b in zip(values[j], values[i], strict=True))
                and any(a < b for a, b in zip(values[j], values[i], strict=True))
                for j in left
            )
        }
        ranks |= dict.fromkeys(front, rank)
        left -= front
        rank += 1
    return [ranks[i] for i in range(len(values))]


@given(points)
def test_ranks_agree_with_a_brute_force(values):
    assert non_dominated_rank(values).tolist() == brute_force_ranks(values.tolist())


def test_equal_rows_share_a_rank_and_unknown_ones_come_last():
    values = [[1, 1], [1, 1], [2, 2], [math.nan, 0], [0, math.nan], [math.inf, 0.5]]
    assert non_dominated_rank(values).tolist() == [0, 0, 1, 2, 2, 0]
    assert non_dominated_rank([[math.nan, 1.0]]).tolist() == [1]
    assert non_dominated_rank(np.empty((0, 2))).tolist() == []
    with pytest.raises(ValueError, match=r"\(n, m\)"):
        non_dominated_rank([1.0, 2.0])


@given(points_2d, st.tuples(st.integers(0, 7), st.integers(0, 7)))
def test_hypervolume_counts_the_unit_squares_it_covers(values, reference):
    covered = sum(
        any(x <= i and y <= j for x, y in values.tolist())
        for i, j in itertools.product(range(reference[0]), range(reference[1]))
    )
    assert hypervolume_2d(values, reference) == covered


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.just(2)), elements=st.floats(-3, 3, width=32)))
def test_hypervolume_agrees_with_optuna(values):
    inside = values[(values <= 2.5).all(axis=1)]
    expected = compute_hypervolume(inside, np.array([2.5, 2.5])) if len(inside) else 0.0
    assert hypervolume_2d(values, (2.5, 2.5)) == pytest.approx(expected, abs=1e-9)


def test_hypervolume_of_what_adds_nothing():
    assert hypervolume_2d([], (1, 1)) == 0.0
    assert hypervolume_2d([[math.nan, 0.0], [1.0, 0.0], [0.0, 5.0]], (1, 1)) == 0.0
    assert hypervolume_2d([[0.5, 0.5], [0.5, 0.5], [0.75, 0.75]], (1, 1)) == pytest.approx(0.25)
    for wrong in ((1.0,), (math.nan, 1.0), (math.inf, 1.0)):
        with pytest.raises(ValueError, match="two finite numbers"):
            hypervolume_2d([[0.0, 0.0]], wrong)


def study_of(rows):
    """A study whose trial i has rows[i] = (mIoU, latency, state, extra attributes)."""
    study = optuna.create_study(
        directions=[item.direction for item in OBJECTIVES], sampler=optuna.samplers.RandomSampler()
    )
    for miou, latency, state, extra in rows:
        trial = study.ask()
        trial.set_user_attr(
            tr.ESTIMATE, {"latency_ms": latency, "low_ms": latency, "high_ms": latency, "coverage": 1.0}
        )
        trial.set_user_attr(tr.SCORE, TrialScore(miou, 3, 3, 10, 10, 1.0, (miou,)).to_dict())
        for name, value in extra.items():
            trial.set_user_attr(name, value)
        if state is TrialState.COMPLETE:
            study.tell(trial, [0.0 if math.isnan(miou) else miou, latency])
        else:
            study.tell(trial, state=state)
    return study


DONE = TrialState.COMPLETE


def test_only_complete_trials_stand_on_the_front_fastest_first():
    records = tr.read_study(
        study_of(
            [
                (0.5, 10.0, DONE, {}),
                (0.3, 2.0, DONE, {}),
                (0.2, 3.0, DONE, {}),  # dominated
                (0.9, 1.0, TrialState.PRUNED, {}),  # stopped early: a partial score
                (0.9, 1.0, TrialState.FAIL, {}),
                (0.5, 10.0, DONE, {tr.DUPLICATE_OF: 0}),  # a repeated proposal
                (math.nan, 0.5, DONE, {}),
                (0.3, 2.0, DONE, {}),  # another candidate, exactly as good
            ]
        )
    )
    front = pareto_front(records)
    assert front.numbers == (1, 7, 0)
    assert front.reference_point == (0.0, 10.0)
    assert front.hypervolume == pytest.approx(0.3 * 8)  # trial 0 lies on the border of its own reference point
    assert records[1] in front
    assert records[2] not in front
    assert pareto_front(records, reference=(0.0, 20.0)).hypervolume == pytest.approx(0.3 * 8 + 0.5 * 10)


def test_front_agrees_with_optunas_best_trials():
    rng = np.random.default_rng(0)
    study = study_of([(float(m), float(t), DONE, {}) for m, t in rng.integers(1, 9, (40, 2))])
    assert sorted(pareto_front(tr.read_study(study)).numbers) == sorted(t.number for t in study.best_trials)


def test_the_reference_point_is_the_budget_or_the_slowest_complete_trial():
    records = tr.read_study(study_of([(0.5, 10.0, DONE, {}), (0.5, 99.0, TrialState.PRUNED, {})]))
    assert reference_point(records) == (0.0, 10.0)
    assert reference_point(records, 25) == (0.0, 25.0)
    empty = pareto_front([])
    assert (len(empty), empty.hypervolume, empty.reference_point) == (0, 0.0, (0.0, 0.0))


def test_the_front_by_measured_latency():
    study = study_of([(0.3, 2.0, DONE, {}), (0.4, 3.0, DONE, {}), (0.6, 5.0, DONE, {})])
    tr.store_later_facts(study, 0, measurement=sample_measurement(4.0))
    tr.store_later_facts(study, 1, measurement=sample_measurement(3.5))
    records = tr.read_study(study)
    assert pareto_front(records).numbers == (0, 1, 2)
    assert pareto_front(records, objectives=(MIOU, MEASURED_LATENCY)).numbers == (1,)


def test_history_is_the_hypervolume_of_every_beginning():
    rng = np.random.default_rng(1)
    records = tr.read_study(study_of([(float(m), float(t), DONE, {}) for m, t in rng.random((15, 2))]))
    history = hypervolume_history(records, (0.0, 1.0))
    assert [number for number, _ in history] == list(range(15))
    for number, value in history:
        assert value == pytest.approx(pareto_front(records[: number + 1], reference=(0.0, 1.0)).hypervolume)
