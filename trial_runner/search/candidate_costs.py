"""Costs of a study's candidates for the sampler `known_cost`: many at once, each architecture once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtri

from hw_latency_model import LatencyEstimate
from objectives.objective import LATENCY, Objective
from objectives.trial_record import read_record
from search_spaces import SearchSpace
from search_spaces.candidate import Candidate
from trial_runner.constraints.cost import CostConstraint
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.search.budget import epoch_seconds
from trial_runner.search.known_cost import KnownCosts

Array = NDArray[np.float64]
Params = Mapping[str, Any]

NEW_NETWORKS = 12
"""Networks whose costs are predicted for one proposal: a new one takes some ten milliseconds."""
LARGEST_DEVIATION = 0.15
"""Standard deviation of the latency that the search reckons with at most, as a share of it. The wide intervals of a model that was not
calibrated are mostly an error that all networks share, which does not change their order."""


class CandidateCosts:
    """Latency in ms, MACs and bytes of weights of candidates, then the study's other objectives that are predicted before training,
    last the standard deviation of the latency.

    Args:
        costs: of those other objectives; None where there are none.
    """

    def __init__(
        self,
        space: SearchSpace,
        gate: LatencyConstraint,
        objectives: Sequence[Objective],
        costs: CostConstraint | None = None,
    ) -> None:
        self._space, self._gate, self._costs = space, gate, costs
        self._objectives = tuple(objectives)
        self._others = [
            item.name for item in objectives if item.available == "pre_training" and item.name != LATENCY.name
        ]

    def known(self) -> KnownCosts:
        """Return the costs with the objectives that they are and their budgets."""
        columns = {LATENCY.name: 0, **{name: 3 + at for at, name in enumerate(self._others)}}
        found = {index: columns[item.name] for index, item in enumerate(self._objectives) if item.name in columns}
        budgets = {columns[item.name]: item.budget for item in self._objectives if item.name in columns and item.budget}
        return KnownCosts(
            self,
            found,
            {0: self._gate.budget_ms, **budgets},
            deviations={0: 3 + len(self._others)},
            restate=True,
            depends_on=self.architecture,
            most_new=NEW_NETWORKS,
        )

    def architecture(self, params: Params) -> Hashable:
        """Return what a candidate's costs depend on."""
        candidate = self._space.candidate(params)
        return self._space.architecture_id(candidate), candidate.precision

    def __call__(self, candidates: Sequence[Params]) -> Array:
        """(n, c) costs of the candidates, in milliseconds for each network that was not asked for before."""
        found = [self._space.candidate(params) for params in candidates]
        return np.array(
            [
                [estimate.latency_ms, *self._arithmetic(candidate), _deviation_ms(estimate)]
                for candidate, estimate in zip(found, self._gate.estimate_many(found), strict=True)
            ],
            dtype=np.float64,
        )

    def _arithmetic(self, candidate: Candidate) -> list[float]:
        others = self._costs.costs(candidate) if self._costs is not None and self._others else {}
        return [
            self._gate.macs(candidate),
            self._gate.weight_bytes(candidate),
            *(others[name].value for name in self._others),
        ]


def _deviation_ms(estimate: LatencyEstimate) -> float:
    """Return the standard deviation of a normal distribution with the estimate's interval, at most a share of the latency."""
    deviation = (estimate.high_ms - estimate.low_ms) / (2.0 * ndtri(0.5 + estimate.level / 2.0))
    return float(min(deviation, LARGEST_DEVIATION * estimate.latency_ms))


def seconds_by_latency(epochs: int) -> Callable[[Sequence[FrozenTrial], Sequence[Params], Array], Array | None]:
    """Return a function that predicts seconds of training from latency, as the time budget does; None before it can tell."""

    def seconds(trials: Sequence[FrozenTrial], candidates: Sequence[Params], costs: Array) -> Array | None:
        records = [read_record(trial, {}) for trial in trials if trial.state == TrialState.COMPLETE]
        found = epoch_seconds(records)
        return None if found is None else np.asarray((found[0] + found[1] * costs[:, 0]) * epochs)

    return seconds
