"""Importance of a study's dimensions for one objective: the share of its variance that goes with each of them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objectives.objective import Objective
from objectives.trial_record import TrialRecord

LEAST_TRIALS = 12
"""Fewer trials say nothing about a dimension."""
_MOST_BINS, _TRIALS_PER_BIN = 6, 10
_RESAMPLES = 100
_Z90 = 1.645
_OF_TRAINING = ("learning_rate", "weight_decay")
_TRAINING_PREFIX = "training."
_RANGE_VALUES = 8

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """Importance of one dimension.

    Attributes:
        name: of the dimension.
        share: of the objective's variance that goes with the dimension alone, 0 to 1, corrected for chance.
        low, high: ends of its 90 % interval.
    """

    name: str
    share: float
    low: float
    high: float


def importances(records: Sequence[TrialRecord], objective: Objective) -> list[Importance]:
    """Return the importance of every dimension that can matter, the most important first; empty with fewer than `LEAST_TRIALS`.

    An objective known before training is a function of the network alone: dimensions of the training are left out, and every
    candidate with an estimate counts, refused ones included. Others are taken from trials that were trained to the end. The share is
    epsilon squared over the values, or over bins of equally many trials of a range; its interval is from halves of the trials.
    """
    known_before = objective.available == "pre_training"
    pairs = [
        (record.params, objective.value(record))
        for record in records
        if record.params and record.duplicate_of is None and (known_before or record.complete)
    ]
    pairs = [(params, value) for params, value in pairs if np.isfinite(value)]
    if len(pairs) < LEAST_TRIALS:
        return []
    names = dict.fromkeys(name for params, _ in pairs for name in params)
    values = np.array([value for _, value in pairs])
    if known_before:
        values = np.log(np.maximum(values, 1e-12))  # costs differ by ratios
    result = []
    for name in names:
        if known_before and is_of_training(name):
            continue
        codes = _codes([params.get(name) for params, _ in pairs])
        if codes.max() > 0:
            result.append(Importance(name, *_share_with_interval(codes, values)))
    return sorted(result, key=lambda item: -item.share)


def is_of_training(name: str) -> bool:
    """Return True for a dimension of the training, which no cost of the network depends on."""
    return name in _OF_TRAINING or name.startswith(_TRAINING_PREFIX)


def _codes(values: Sequence[object]) -> npt.NDArray[np.int64]:
    """Number the values of a choice, or bins of a range, from 0; a missing value is one of its own."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values) and len(set(numbers)) > _RANGE_VALUES:
        array = np.array(numbers, dtype=np.float64)
        bins = int(np.clip(len(array) // _TRIALS_PER_BIN, 2, _MOST_BINS))
        edges = np.quantile(array, np.linspace(0, 1, bins + 1)[1:-1])
        return np.unique(np.searchsorted(edges, array, side="right"), return_inverse=True)[1].astype(np.int64)
    return np.unique([str(value) for value in values], return_inverse=True)[1].astype(np.int64)


def _share_with_interval(codes: npt.NDArray[np.int64], values: FloatArray) -> tuple[float, float, float]:
    share = _share(codes, values)
    rng, half = np.random.default_rng(0), len(values) // 2
    drawn = [rng.permutation(len(values))[:half] for _ in range(_RESAMPLES)]
    # The spread of halves about the whole is the standard error of the whole (Politis and Romano's subsampling).
    error = float(np.std([_share(codes[part], values[part]) for part in drawn]))
    return max(share, 0.0), max(share - _Z90 * error, 0.0), float(np.clip(share + _Z90 * error, 0.0, 1.0))


def _share(codes: npt.NDArray[np.int64], values: FloatArray) -> float:
    counts = np.bincount(codes)
    groups, n = int((counts > 0).sum()), len(values)
    total = float(((values - values.mean()) ** 2).sum())
    if total <= 0.0 or n <= groups:
        return 0.0
    means = np.bincount(codes, values)[counts > 0] / counts[counts > 0]
    between = float((counts[counts > 0] * (means - values.mean()) ** 2).sum())
    return 1.0 - (total - between) / total * (n - 1) / (n - groups)
