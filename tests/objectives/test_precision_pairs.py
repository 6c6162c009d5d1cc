"""The same network in INT8 and in another precision: named where INT8 is not faster."""

from __future__ import annotations

from dataclasses import replace

from sample_measurement import sample_measurement

from hw_latency_model import LatencyEstimate
from objectives.precision_pairs import int8_sentences, slow_in_int8
from objectives.trial_record import Outcome, State, TrialRecord
from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate


def trial(number: int, precision: str, ms: float, measured_ms: float | None = None, width: float = 0.5) -> TrialRecord:
    score = TrialScore(0.5, 2, 2, 1000, 100, 1.0, (0.5,), precision=precision)
    found = None if measured_ms is None else sample_measurement(measured_ms)
    candidate = Candidate("encoder_decoder", 1, {"width": width, "precision": precision})
    estimate = LatencyEstimate(ms, ms, ms, 1.0)
    return TrialRecord(
        number,
        State.COMPLETE,
        candidate,
        Outcome.FINISHED,
        None,
        estimate,
        score,
        (),
        found,
        *[None] * 6,  # type: ignore[arg-type]
    )


def test_int8_that_is_not_faster_is_named_with_the_best_other_precision():
    records = [trial(0, "int8", 4.0), trial(1, "fp16", 3.0), trial(2, "fp32", 3.5), trial(3, "fp16", 1.0, width=0.25)]
    (pair,) = slow_in_int8(records)
    assert (pair.int8.number, pair.other.number, pair.measured) == (0, 1, False)
    assert "trial 0 takes 4 ms, trial 1, the same network in fp16, 3 ms (predicted)" in pair.sentence()
    assert slow_in_int8([trial(0, "int8", 2.0), *records[1:]]) == []


def test_measured_latencies_decide_where_both_have_one():
    fast = [trial(0, "int8", 2.0, measured_ms=5.0), trial(1, "fp16", 3.0)]
    assert slow_in_int8(fast) == [], "one is measured, so the predictions are compared"
    (pair,) = slow_in_int8([fast[0], trial(1, "fp16", 3.0, measured_ms=4.0)])
    assert (pair.int8_ms, pair.other_ms, pair.measured) == (5.0, 4.0, True)


def test_an_int8_engine_that_is_not_faster_is_told():
    step = {"device": "orin", "latency_ms": 5.0, "float_ms": 5.0, "float_precision": "fp16"}
    slow, fast = (replace(trial(0, "fp16", 1.0), engine_int8={**step, "latency_ms": ms}) for ms in (5.0, 4.0))
    unknown = replace(fast, engine_int8={"device": "orin", "latency_ms": 5.0})
    (told,) = int8_sentences([slow, fast, unknown, trial(1, "fp16", 1.0, width=0.25)])
    assert told.startswith("INT8 is not faster: the INT8 engine of trial 0 takes 5 ms on orin, that in fp16 5 ms")
