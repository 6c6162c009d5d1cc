"""Trials of a study as the surrogates see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from trial_runner.search.known_cost.encoding import Key, Params, SpaceEncoding

Array = NDArray[np.float64]

Evidence = Mapping[int, tuple[Sequence[float], Sequence[float]]]
"""Trial number to the expected final values of its objectives, in their units, and their standard deviations."""


class ReadsCurves(Protocol):
    """Evidence that learning curves give on a study's objectives."""

    def __call__(self, trials: Sequence[FrozenTrial]) -> Evidence:
        """Return evidence on trials that did not finish, or not yet."""

    def noise(self, trials: Sequence[FrozenTrial]) -> list[float]:
        """Standard deviation of each objective's values of finished trials, in its unit."""


@dataclass(frozen=True)
class History:
    """Trials of a study, split by what they tell.

    Attributes:
        rows: params of the n finished trials, then of stopped and running trials with evidence.
        values: (n, m), every column minimised; NaN where evidence tells nothing.
        noise: (n, m) variance known of each value.
        finished: number of finished trials.
        violations: (finished, v) constraint violations, positive where broken; v = 0 unless all finished trials have the same ones.
        pending: params of running trials.
        failed: params of failed trials.
        tried: keys of all trials.
    """

    rows: list[Params]
    values: Array
    noise: Array
    finished: int
    violations: Array
    pending: list[Params]
    failed: list[Params]
    tried: frozenset[Key]

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """(finished,): True for trials that break no constraint."""
        return np.asarray((self.violations <= 0.0).all(axis=1))


def read_history(
    study: optuna.Study,
    current: int,
    encoding: SpaceEncoding,
    evidence: ReadsCurves | None,
) -> History:
    """Read a study without its trial number ``current``, which is about to be given its params.

    Trials that lack params of the encoding (of another version of the space) are left out.
    """
    signs = np.array([-1.0 if item == StudyDirection.MAXIMIZE else 1.0 for item in study.directions])
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.number != current and trial.params]
    trials = [trial for trial in trials if encoding.whole(trial.params)]
    found = evidence(trials) if evidence is not None else {}
    noise = evidence.noise(trials) if evidence is not None else [0.0] * len(signs)
    finished, partly = [], []
    for trial in trials:
        if trial.state == TrialState.COMPLETE and all(map(math.isfinite, trial.values)):
            finished.append(trial)
        elif trial.number in found:
            partly.append(trial)
    values = [trial.values for trial in finished] + [found[trial.number][0] for trial in partly]
    spread = [noise] * len(finished) + [list(found[trial.number][1]) for trial in partly]
    return History(
        rows=[trial.params for trial in (*finished, *partly)],
        values=signs * np.array(values, dtype=np.float64).reshape(-1, len(signs)),
        noise=np.array(spread, dtype=np.float64).reshape(-1, len(signs)) ** 2,
        finished=len(finished),
        violations=_violations(finished),
        pending=[trial.params for trial in trials if trial.state == TrialState.RUNNING],
        failed=[trial.params for trial in trials if trial.state == TrialState.FAIL],
        tried=frozenset(encoding.key(trial.params) for trial in trials),
    )


def _violations(trials: Sequence[FrozenTrial]) -> Array:
    constraints = [trial.constraints for trial in trials]
    names = sorted(set().union(*constraints)) if constraints else []
    if any(len(item) < len(names) for item in constraints):
        return np.zeros((len(trials), 0))
    return np.array([[item[name] for name in names] for item in constraints], dtype=np.float64).reshape(
        len(trials), len(names)
    )
