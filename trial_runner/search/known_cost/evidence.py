"""Learning curves as evidence: final values of trials that did not finish, and the noise of those that did."""

from __future__ import annotations

import math
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
        found: dict[int, tuple[list[float], list[float]]] = {}
        for trial in trials:
            if trial.state not in (TrialState.PRUNED, TrialState.RUNNING) or not trial.intermediate_values:
                continue
            step = max(trial.intermediate_values)
            reading = trial.intermediate_values[step]
            values, deviations = [math.nan] * self._objectives, [0.0] * self._objectives
            for objective, slope in self._slopes.items():
                pairs = [
                    (other.intermediate_values[step], other.values[objective])
                    for other in finished
                    if step in other.intermediate_values
                ]
                pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
                if len(pairs) >= _LEAST_PAIRS and math.isfinite(reading):
                    values[objective], deviations[objective] = _extrapolated(np.array(pairs), reading, slope)
            if not all(map(math.isnan, values)):
                found[trial.number] = values, deviations
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


def _extrapolated(pairs: Array, reading: float, expected: float) -> tuple[float, float]:
    early, final = pairs[:, 0], pairs[:, 1]
    around = early - early.mean()
    spread = max(float(around @ around), 1e-12)
    drawn = _SLOPE_PRIOR * spread / len(pairs)
    slope = (float(around @ (final - final.mean())) + expected * drawn) / (spread + drawn)
    slope = max(0.0, slope) if expected > 0 else slope
    distance = reading - float(early.mean())
    residual = final - final.mean() - slope * around
    variance = float(residual @ residual) / (len(pairs) - 2) * (1.0 + 1.0 / len(pairs) + distance**2 / spread)
    return float(final.mean()) + slope * distance, math.sqrt(max(variance, 1e-12))
