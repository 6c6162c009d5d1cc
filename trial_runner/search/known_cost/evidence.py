"""Final values of trials that were stopped early, extrapolated from the learning curves of those that were not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from trial_runner.search.known_cost.history import Evidence

_LEAST_PAIRS = 4
_SLOPE_PRIOR = 4.0
"""Weight of a slope of one in the regression, in numbers of trials."""


class CurveEvidence:
    """Regression of the final value on the reading at the step where a trial was stopped.

    Args:
        objective: index of the objective that the intermediate values are readings of.
        objectives: number of objectives.
    """

    def __init__(self, objective: int, objectives: int) -> None:
        self._objective, self._objectives = objective, objectives

    def __call__(self, trials: Sequence[FrozenTrial]) -> Evidence:
        """Return expected values and standard deviations of stopped trials; NaN for the objectives without readings.

        The final value is taken as linear in the reading, the slope drawn towards one. The deviation is that of the finished trials
        around the line. A step that fewer than four finished trials have a reading of tells nothing.
        """
        curves = [
            (trial.intermediate_values, trial.values[self._objective])
            for trial in trials
            if trial.state == TrialState.COMPLETE and trial.intermediate_values
        ]
        found: dict[int, tuple[list[float], list[float]]] = {}
        for trial in trials:
            if trial.state != TrialState.PRUNED or not trial.intermediate_values:
                continue
            step = max(trial.intermediate_values)
            reading = trial.intermediate_values[step]
            pairs = [(curve[step], final) for curve, final in curves if step in curve]
            pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
            if len(pairs) < _LEAST_PAIRS or not math.isfinite(reading):
                continue
            value, deviation = _extrapolated(np.array(pairs), reading)
            values, deviations = [math.nan] * self._objectives, [0.0] * self._objectives
            values[self._objective], deviations[self._objective] = value, deviation
            found[trial.number] = values, deviations
        return found


def _extrapolated(pairs: np.ndarray[tuple[int, ...], np.dtype[np.float64]], reading: float) -> tuple[float, float]:
    early, final = pairs[:, 0], pairs[:, 1]
    around = early - early.mean()
    spread = max(float(around @ around), 1e-12)
    drawn = _SLOPE_PRIOR * spread / len(pairs)
    slope = max(0.0, (float(around @ (final - final.mean())) + drawn) / (spread + drawn))
    distance = reading - float(early.mean())
    residual = final - final.mean() - slope * around
    variance = float(residual @ residual) / (len(pairs) - 2) * (1.0 + 1.0 / len(pairs) + distance**2 / spread)
    return float(final.mean()) + slope * distance, math.sqrt(max(variance, 1e-12))
