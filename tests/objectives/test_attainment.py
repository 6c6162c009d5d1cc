"""Attainment surfaces of repeated studies."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from test_front_table import record

from hw_latency_model import LatencyEstimate
from objectives.attainment import attainment
from objectives.objective import OBJECTIVES
from objectives.pareto import ParetoFront
from objectives.trial_score import TrialScore


def front(*points: tuple[float, float]) -> ParetoFront:
    """A front of (ms, mIoU)."""
    members = tuple(
        replace(
            record(number, "lcnet"),
            estimate=LatencyEstimate(ms, ms, ms, 1.0),
            score=TrialScore(miou, 1, 1, 1, 1, 1.0, ()),
            measurement=None,
        )
        for number, (ms, miou) in enumerate(points)
    )
    return ParetoFront(members, OBJECTIVES, (0.0, 10.0))


def test_a_share_of_the_studies_reaches_each_surface():
    studies = [
        front((1, 0.1), (3, 0.5)),
        front((2, 0.3)),
        front((2, 0.2), (4, 0.6)),
        front((3, 0.4)),
    ]
    found = attainment(studies)
    assert found is not None and (found.at, found.studies) == ((1.0, 2.0, 3.0, 4.0), 4)
    assert found.surfaces[0.25] == (0.1, 0.3, 0.5, 0.6)
    assert found.surfaces[0.5] == pytest.approx((math.nan, 0.2, 0.4, 0.5), nan_ok=True)
    assert found.surfaces[0.75] == pytest.approx((math.nan, 0.1, 0.3, 0.4), nan_ok=True)


def test_two_studies_or_three_objectives_have_none():
    assert attainment([front((1, 0.1)), front((1, 0.1))]) is None
    three = replace(front((1, 0.1)), objectives=(*OBJECTIVES, OBJECTIVES[1]))
    assert attainment([three] * 3) is None
