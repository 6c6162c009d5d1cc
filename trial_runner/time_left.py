"""How long a candidate's training will take, from the trainings that a study has seen."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from objectives.trial_record import TrialRecord

SLACK = 1.35
"""Of the time of an epoch, for its evaluation, its checkpoint, and the end of the launch."""
_LEAST_TRAININGS = 3


def training_seconds(records: Iterable[TrialRecord], latency_ms: float, epochs: int) -> float | None:
    """Seconds that ``epochs`` of a network of this latency take; None before three trials have told.

    An epoch's time is taken as proportional to the latency, which holds within a quarter where the networks train on the
    kind of device that they are meant for, and is a first guess elsewhere.
    """
    rates = [
        record.score.train_s / record.score.epoch / record.latency_ms
        for record in records
        if record.score and record.score.epoch and record.latency_ms and record.reused_from is None
    ]
    if len(rates) < _LEAST_TRAININGS:
        return None
    return SLACK * statistics.median(rates) * latency_ms * epochs
