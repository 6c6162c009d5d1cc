"""Learning curves as evidence: final values of trials that did not finish, and the noise of those that did."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from trial_runner.search.known_cost.history import Evidence

Array = NDArray[np.float64]

_LEAST_PAIRS = 4
_SLOPE_PRIOR = 4.0
"""Weight of the expected slope in the regression, in numbers of trials."""
_LAST_READINGS = 5
"""Readings at the end of a curve whose scatter is taken as noise."""


class CurveEvidence:
    """Regression of final values on the reading at the step where a trial was stopped, or has arrived.

    Args:
        slopes: index of an objective to the slope that is expected of its final value over the reading: 1 for the objective that the
            intermediate values are readings of and those that follow it, 0 for others.
        objectives: number of objectives.
        scatter: objective whose noise is that of the last readings; None if the readings are of none.
    """

    def __init__(self, slopes: Mapping[int, float], objectives: int, scatter: int | None = None) -> None:
        self._slopes, self._objectives, self._scatter = dict(slopes), objectives, scatter

    def __call__(self, trials: Sequence[FrozenTrial]) -> Evidence:
        """Return expected values and standard deviations of stopped and running trials; NaN for the objectives not told of.

        A final value is taken as linear in the reading, the slope drawn towards the expected one. The deviation is that of the finished
        trials around the line. A step that fewer than four finished trials have a reading of tells nothing.
        """
        finished = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.intermediate_values]
        arrived: defaultdict[int, list[FrozenTrial]] = defaultdict(list)
        for trial in trials:
            if trial.state in (TrialState.PRUNED, TrialState.RUNNING) and trial.intermediate_values:
                arrived[max(trial.intermediate_values)].append(trial)
        found: dict[int, tuple[list[float], list[float]]] = {}
        for step, there in arrived.items():
            values = np.full((len(there), self._objectives), math.nan)
            deviations = np.zeros_like(values)
            readings = np.array([trial.intermediate_values[step] for trial in there])
            known = np.isfinite(readings)
            passed = [other for other in finished if step in other.intermediate_values]
            for objective, slope in self._slopes.items():
                pairs = np.array([(other.intermediate_values[step], other.values[objective]) for other in passed])
                pairs = pairs.reshape(-1, 2)[np.isfinite(pairs.reshape(-1, 2)).all(axis=1)]
                if len(pairs) >= _LEAST_PAIRS and known.any():
                    expected = _extrapolated(pairs, readings[known], slope)
                    values[known, objective], deviations[known, objective] = expected
            for trial, row, spread in zip(there, values, deviations, strict=True):
                if not np.isnan(row).all():
                    found[trial.number] = row.tolist(), spread.tolist()
        return found

    def noise(self, trials: Sequence[FrozenTrial]) -> list[float]:
        """Standard deviation of the objectives of finished trials that their last readings show, the median over the trials.

        Second differences of readings hold no linear trend; those of noise with deviation σ have the variance 6 σ². It is a lower bound:
        trainings with other seeds differ by more.
        """
        result = [0.0] * self._objectives
        curves = [
            [value for _, value in sorted(trial.intermediate_values.items())][-_LAST_READINGS:]
            for trial in trials
            if trial.state == TrialState.COMPLETE and len(trial.intermediate_values) >= _LAST_READINGS
        ]
        if self._scatter is not None and curves:
            bends = np.diff(np.array(curves), n=2, axis=1)
            deviation = float(np.nanmedian(np.sqrt((bends**2).mean(axis=1) / 6.0)))
            result[self._scatter] = deviation if math.isfinite(deviation) else 0.0
        return result


def _extrapolated(pairs: Array, readings: Array, expected: float) -> tuple[Array, Array]:
    """Expected final values of readings (n,) and their standard deviations, from (reading, final value) of other trials."""
    early, final = pairs[:, 0], pairs[:, 1]
    around = early - early.mean()
    spread = max(float(around @ around), 1e-12)
    drawn = _SLOPE_PRIOR * spread / len(pairs)
    slope = (float(around @ (final - final.mean())) + expected * drawn) / (spread + drawn)
    slope = max(0.0, slope) if expected > 0 else slope
    distance = readings - float(early.mean())
    residual = final - final.mean() - slope * around
    variance = float(residual @ residual) / (len(pairs) - 2) * (1.0 + 1.0 / len(pairs) + distance**2 / spread)
    return float(final.mean()) + slope * distance, np.sqrt(np.maximum(variance, 1e-12))
