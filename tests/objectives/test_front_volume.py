"""Hypervolumes in any number of objectives: against counted cubes, and against Optuna's own."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from optuna._hypervolume import compute_hypervolume

from objectives.hypervolume import exclusive_hypervolume, hypervolume

# Small integers make ties and duplicates the rule.
clouds = st.integers(2, 4).flatmap(
    lambda m: hnp.arrays(np.float64, st.tuples(st.integers(0, 8), st.just(m)), elements=st.integers(0, 4).map(float))
)


@given(clouds)
@settings(deadline=None)
def test_it_counts_the_unit_cubes_it_covers(points):
    m = points.shape[1]
    covered = sum(
        any(all(p <= c for p, c in zip(point, cube, strict=True)) for point in points.tolist())
        for cube in itertools.product(range(4), repeat=m)
    )
    assert hypervolume(points, (4.0,) * m) == covered


@pytest.mark.parametrize("objectives", [2, 3, 4, 5])
def test_it_agrees_with_optuna(objectives: int):
    rng = np.random.default_rng(objectives)
    for count in (1, 7, 30):
        points = rng.random((count, objectives))
        expected = compute_hypervolume(points, np.ones(objectives))
        assert hypervolume(points, (1.0,) * objectives) == pytest.approx(expected)


def test_units_scale_it_and_what_is_unknown_or_outside_adds_nothing():
    point = [[1.0, 2.0, 3.0]]
    assert hypervolume(point, (2.0, 4.0, 6.0)) == pytest.approx(1 * 2 * 3)
    more = [*point, [math.nan, 0, 0], [2.0, 0, 0], [1.5, 3.0, 4.0], *point]
    assert hypervolume(more, (2.0, 4.0, 6.0)) == pytest.approx(6.0)
    assert hypervolume([], (1.0, 1.0, 1.0)) == 0.0
    with pytest.raises(ValueError, match="at least two finite numbers"):
        hypervolume(point, (1.0, math.inf, 1.0))


@given(clouds)
@settings(deadline=None)
def test_exclusive_volumes_add_up_to_the_whole(points):
    corner, total = (4.0,) * points.shape[1], 0.0
    for index, point in enumerate(points):
        total += exclusive_hypervolume(point, points[:index], corner)
    assert total == pytest.approx(hypervolume(points, corner))
