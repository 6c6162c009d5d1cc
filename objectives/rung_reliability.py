"""Agreement of the trials' order at a rung with their order at the end of training, within one study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objectives.trial_record import TrialRecord

LEAST_TRIALS = 8
"""Fewer finished trials say nothing about a rung."""
TRUSTED = 0.7
"""Rank correlation of a rung that early stopping relies on."""
_RESAMPLES = 500
_TAILS_PERCENT = (5.0, 95.0)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, order=True)
class Rung:
    """Point of a training at which early stopping compares trials: an epoch, or seconds of training.

    Attributes:
        epoch: 0 for a rung in seconds.
        seconds: a trial reaches it with its first evaluation after so many seconds of training; 0 for a rung at an epoch.
    """

    epoch: int = 0
    seconds: float = 0.0

    def reached_by(self, epoch: int, epoch_s: float) -> bool:
        """Return True for an evaluation at or after the rung.

        Args:
            epoch: of the evaluation.
            epoch_s: seconds of one epoch of the trial.
        """
        return epoch * epoch_s >= self.seconds if self.seconds else epoch >= self.epoch

    def epoch_of(self, record: TrialRecord) -> int | None:
        """Return the epoch of a trial's reading at the rung, or None without one."""
        if not self.seconds:
            return self.epoch
        if record.score is None or not record.score.epoch:
            return None
        epoch_s = record.score.train_s / record.score.epoch
        return min((epoch for epoch, _ in record.curve if self.reached_by(epoch, epoch_s)), default=None)

    def __str__(self) -> str:
        return f"after {self.seconds:.3g} s of training" if self.seconds else f"at epoch {self.epoch}"


@dataclass(frozen=True)
class RungReliability:
    """Rank correlation (Spearman) of the mIoU at a rung with that at the end, over the finished trials.

    Trials that were stopped at the rung have no end, so that the correlation over all trials is rather higher.

    Attributes:
        trials: number of finished trials with a reading at the rung.
        correlation: from -1 to 1.
        low, high: ends of its 90 % bootstrap interval.
    """

    trials: int
    correlation: float
    low: float
    high: float

    @property
    def trusted(self) -> bool:
        """True unless the whole interval is below `TRUSTED`."""
        return self.high >= TRUSTED

    @property
    def trust(self) -> float:
        """1 for a trusted rung, down to 0 for one whose whole interval is not above 0."""
        return 1.0 if self.trusted else max(self.high, 0.0) / TRUSTED


def rung_reliability(records: Iterable[TrialRecord], rung: Rung) -> RungReliability | None:
    """Return the reliability of a rung; None with fewer than `LEAST_TRIALS` finished trials, or where all are equal.

    The end is the mIoU before quantization, as the readings are. Final trainings and duplicates are left out.
    """
    pairs = []
    for record in records:
        epoch = rung.epoch_of(record)
        early = None if epoch is None else dict(record.curve).get(epoch)
        late = record.float_miou if record.float_miou is not None else record.val_miou
        if record.complete and record.parent_trial is None and early is not None and late is not None:
            pairs.append((early, late))
    if len(pairs) < LEAST_TRIALS:
        return None
    found = rank_correlation(*zip(*pairs, strict=True))
    return RungReliability(len(pairs), *found) if found is not None else None


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> tuple[float, float, float] | None:
    """Return Spearman's correlation and its 90 % bootstrap interval; None where all values of one side are equal. Deterministic."""
    pair = np.array([left, right], dtype=np.float64)
    whole = float(_spearman(pair[:, None, :])[0])
    if math.isnan(whole):
        return None
    drawn = np.random.default_rng(0).integers(pair.shape[1], size=(_RESAMPLES, pair.shape[1]))
    low, high = np.nanpercentile(_spearman(pair[:, drawn]), _TAILS_PERCENT)
    return whole, float(low), float(high)


def _spearman(values: FloatArray) -> FloatArray:
    """Return the rank correlation of two (r, n) arrays row by row; NaN where a row is constant."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=-1)
    centred = ranks - ranks.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        return np.asarray((centred[0] * centred[1]).sum(axis=-1) / (spread[0] * spread[1]), dtype=np.float64)
