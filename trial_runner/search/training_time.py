"""How long a candidate's training will take, from the trainings that a study has seen."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.optimize import nnls

from objectives.trial_record import TrialRecord

SLACK = 1.35
"""Of the time of an epoch, for its evaluation, its checkpoint, and the end of the launch."""
_LEAST_TRAININGS = 3


def training_seconds(records: Iterable[TrialRecord], latency_ms: float, epochs: int) -> float | None:
    """Seconds that ``epochs`` of a network of this latency take; None before three trials have told.

    An epoch's time is taken as a constant and a part proportional to the latency, neither negative, by least squares of the
    relative errors. That holds within a quarter where the networks train on the kind of device that they are meant for,
    and is a first guess elsewhere.
    """
    seen = [
        (record.latency_ms, record.score.train_s / record.score.epoch)
        for record in records
        if record.score and record.score.epoch and record.score.train_s > 0 and record.latency_ms
    ]
    if len(seen) < _LEAST_TRAININGS:
        return None
    known_ms, epoch_s = np.array(seen).T
    constant, rate = nnls(np.stack([1 / epoch_s, known_ms / epoch_s], axis=1), np.ones(len(seen)))[0]
    return float(SLACK * (constant + rate * latency_ms) * epochs)
