"""Plan of final trainings: which networks to train further, and for how long, by the expected gain of hypervolume in the time left."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objectives.hypervolume import non_dominated
from objectives.objective import Objective
from trial_runner.search.known_cost.acquisition import boxes, expected_hypervolume_improvement

LEAST_EPOCHS = 3
"""Fewer epochs do not make up for restarting the learning rate."""
_PRIOR_MEAN = 0.15
_PRIOR_DEVIATION = 0.1
_PRIOR_WEIGHT = 2.0
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_SHARES = _WEIGHTS / _WEIGHTS.sum()

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingEffect:
    """Effect of further training: an accuracy m increases by ``s m (1 - m)`` per doubling of the epochs, with normal s.

    Attributes:
        mean, deviation: of s.
    """

    mean: float = _PRIOR_MEAN
    deviation: float = _PRIOR_DEVIATION


def observed_effect(trainings: Iterable[tuple[float, float, int, int]]) -> TrainingEffect:
    """Return the effect that a study's final trainings had, drawn towards the prior with the weight of two of them.

    Args:
        trainings: (accuracy before, accuracy after, epochs before, further epochs) of each.
    """
    seen = [
        (after - before) / (before * (1.0 - before) * doublings(epochs, further))
        for before, after, epochs, further in trainings
        if 0.0 < before < 1.0
    ]
    weight = _PRIOR_WEIGHT + len(seen)
    mean = (_PRIOR_WEIGHT * _PRIOR_MEAN + sum(seen)) / weight
    spread = _PRIOR_WEIGHT * (_PRIOR_DEVIATION**2 + (_PRIOR_MEAN - mean) ** 2) + sum((s - mean) ** 2 for s in seen)
    return TrainingEffect(mean, math.sqrt(spread / weight))


def doublings(epochs: int, further: int) -> float:
    """Return how often the number of epochs doubles by further ones."""
    return math.log2((epochs + further) / epochs)


@dataclass(frozen=True)
class FinalOption:
    """Network that may be trained further.

    Attributes:
        number: of its trial.
        values: of the objectives, in their units and order.
        epochs: trained so far.
        epoch_s: seconds of an epoch.
    """

    number: int
    values: tuple[float, ...]
    epochs: int
    epoch_s: float

    def epochs_within(self, seconds: float, most: int) -> int:
        """Return the number of further epochs that fit into the time, at most ``most``."""
        return most if self.epoch_s * most <= seconds else int(seconds / self.epoch_s)


@dataclass(frozen=True)
class PlannedTraining:
    """Training of a plan.

    Attributes:
        number: of the trial to continue.
        epochs: further ones.
        gain: expected gain of hypervolume, in the product of the objectives' units.
    """

    number: int
    epochs: int
    gain: float


class FinalPlanner:
    """Plans final trainings.

    Args:
        objectives: in the order of the values. Those between 0 and 1 that are maximised and not known before training increase with
            training, the others keep their values.
        reference: reference point, in the objectives' units.
        points: (n, m) values of the networks that the study has.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        reference: Sequence[float],
        points: Sequence[Sequence[float]],
        effect: TrainingEffect,
    ) -> None:
        self._signs = np.array([objective.sign for objective in objectives])
        self._grows = np.array([o.direction == "maximize" and o.available != "pre_training" for o in objectives])
        self._corner = list(self._signs * np.asarray(reference, dtype=np.float64))
        self._points = non_dominated(self._signs * np.asarray(points, dtype=np.float64).reshape(-1, len(self._signs)))
        self._effect = effect

    def plan(
        self,
        options: Sequence[FinalOption],
        *,
        seconds: float,
        members: int,
        most_epochs: int,
        slots: int = 1,
        first: int | None = None,
    ) -> list[PlannedTraining]:
        """Return the trainings with the largest expected gain in total, in their order; empty where there is no time for any.

        Plans of one to ``members`` networks are compared, which share the time equally; each takes the networks one by one by the gain
        that they add to those before.

        Args:
            seconds: time left.
            members: most networks.
            most_epochs: of a training.
            slots: trainings that run side by side.
            first: number of the option that every plan begins with; None leaves it to the gain.
        """
        best: list[PlannedTraining] = []
        hopeful = self._hopeful(options, most_epochs, first)
        for count in range(1, min(members, len(hopeful)) + 1):
            share_s = seconds if count <= slots else seconds * slots / count
            found = self._chosen(hopeful, count, share_s, most_epochs, first)
            if found and (not best or total_gain(found) > total_gain(best)):
                best = found
        return best

    def _hopeful(self, options: Sequence[FinalOption], most_epochs: int, first: int | None) -> list[FinalOption]:
        """Return the options that gain anything with the largest effect after all epochs, and the first one; all where none does."""
        if not options:
            return []
        best = self._effect.mean + self._effect.deviation * _NODES.max(keepdims=True)
        after = self._after([(option, most_epochs) for option in options], best)[:, 0]
        lows, highs = boxes(self._points, self._corner)
        gains = expected_hypervolume_improvement(lows, highs, after, np.zeros_like(after))
        found = [o for o, gain in zip(options, gains, strict=True) if gain > 0.0 or o.number == first]
        return found if gains.any() else list(options)

    def _chosen(
        self, options: Sequence[FinalOption], count: int, seconds: float, most_epochs: int, first: int | None
    ) -> list[PlannedTraining]:
        points, left = self._points, list(options)
        chosen: list[PlannedTraining] = []
        while left and len(chosen) < count:
            offered = (
                [option for option in left if option.number == first] if not chosen and first is not None else left
            )
            fitting = [
                (option, epochs)
                for option in offered
                if (epochs := option.epochs_within(seconds, most_epochs)) >= LEAST_EPOCHS
            ]
            if not fitting:
                return chosen
            planned = [
                PlannedTraining(option.number, epochs, gain)
                for (option, epochs), gain in zip(fitting, self._gains(fitting, points), strict=True)
            ]
            training = max(planned, key=lambda item: (item.gain, -item.number))
            option = next(option for option in left if option.number == training.number)
            points = np.vstack([points, self._after([(option, training.epochs)], np.array([self._effect.mean]))[0]])
            left.remove(option)
            chosen.append(training)
        return chosen

    def _gains(self, trainings: Sequence[tuple[FinalOption, int]], points: FloatArray) -> list[float]:
        """Return the expected gain of hypervolume of each training, by the options and their further epochs."""
        after = self._after(trainings, self._effect.mean + self._effect.deviation * _NODES)
        lows, highs = boxes(points, self._corner)
        flat = after.reshape(-1, after.shape[-1])
        gains = expected_hypervolume_improvement(lows, highs, flat, np.zeros_like(flat)).reshape(after.shape[:2])
        return [float(gain) for gain in gains @ _SHARES]

    def _after(self, trainings: Sequence[tuple[FinalOption, int]], per_doubling: FloatArray) -> FloatArray:
        """Return the signed values (n, k, m) after each training, for k effects of a doubling."""
        values = np.array([option.values for option, _ in trainings])[:, None, :]
        doubled = np.array([doublings(option.epochs, epochs) for option, epochs in trainings])
        shift = (doubled[:, None] * per_doubling[None, :])[:, :, None]
        grown = np.minimum(values + shift * values * (1.0 - values), 1.0)
        return np.asarray(self._signs * np.where(self._grows & (values > 0.0) & (values < 1.0), grown, values))


def total_gain(trainings: Iterable[PlannedTraining]) -> float:
    """Return the expected gain of hypervolume of a plan."""
    return sum(training.gain for training in trainings)
