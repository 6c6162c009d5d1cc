"""Rank correlation of a rung with the end: the value, its interval, and which trials count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from hw_latency_model import LatencyEstimate
from objectives.rung_reliability import Rung, rank_correlation, rung_reliability
from objectives.trial_record import Outcome, State, TrialRecord
from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate


def record(number: int, early: float, late: float) -> TrialRecord:
    estimate = LatencyEstimate(latency_ms=1.0, low_ms=1.0, high_ms=1.0, coverage=1.0)
    score = TrialScore(late, 4, 4, 1, 1, 1.0, ())
    candidate = Candidate("encoder_decoder", 1, {"width": float(number)})
    rest = (None, None, None, None, None, None, None)
    curve = ((2, early), (4, late))
    return TrialRecord(number, State.COMPLETE, candidate, Outcome.FINISHED, None, estimate, score, curve, *rest)


def test_the_correlation_is_spearmans_with_ties_and_lies_in_its_interval():
    rng = np.random.default_rng(1)
    early = rng.integers(0, 6, 30) / 10
    late = early + rng.normal(0, 0.2, 30)
    rho, low, high = rank_correlation(early, late)
    assert rho == pytest.approx(spearmanr(early, late).statistic)
    assert -1 <= low < rho < high <= 1
    assert rank_correlation(early, late) == (rho, low, high)
    many = rank_correlation([*early] * 8, [*late] * 8)
    assert many[2] - many[1] < high - low
    assert rank_correlation([0.5] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]) is None


def test_an_order_that_stays_is_trusted_and_one_that_turns_round_is_not():
    same = [record(n, 0.1 * n, 0.1 * n + 0.2) for n in range(8)]
    found = rung_reliability(same, Rung(2))
    assert found is not None and found.trusted and found.correlation == 1.0 and found.trials == 8 and found.trust == 1.0
    turned = rung_reliability([record(n, 0.1 * n, 0.8 - 0.1 * n) for n in range(8)], Rung(2))
    assert turned is not None and not turned.trusted and turned.trust == 0.0


def test_only_finished_searched_trials_with_a_reading_count():
    records = [record(n, 0.1 * n, 0.1 * n) for n in range(8)]
    assert rung_reliability(records[:7], Rung(2)) is None
    assert rung_reliability(records, Rung(3)) is None
    for change in (
        {"state": State.PRUNED},
        {"parent_trial": 1},
        {"duplicate_of": 1},
    ):
        assert rung_reliability([*records[:7], replace(records[7], **change)], Rung(2)) is None


def test_the_end_is_the_one_before_quantization():
    records = [record(n, 0.1 * n, 0.1 * n) for n in range(8)]
    rounded = [replace(r, score=replace(r.score, val_miou=0.9 - r.val_miou, float_miou=r.val_miou)) for r in records]
    found = rung_reliability(rounded, Rung(2))
    assert found is not None and found.correlation == 1.0
