"""Earlier studies as evidence: surrogates of their results, whose predictions inform those of the present study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trial_runner.search.known_cost.encoding import Params, SpaceEncoding
from trial_runner.search.known_cost.surrogate import Inputs, Posterior, Surrogate

Array = NDArray[np.float64]

_MOST = 150
_LEAST = 4


@dataclass(frozen=True)
class EarlierTrials:
    """Finished trials of an earlier study, on other data or another device.

    Attributes:
        rows: params of the n trials.
        values: (n, m) values of the present study's objectives, in their units; NaN where unknown.
    """

    rows: Sequence[Params]
    values: Array


class EarlierSurrogates:
    """Predictions of earlier studies, each fitted once to at most 150 trials, the first ones."""

    def __init__(self, studies: Sequence[EarlierTrials]) -> None:
        self._studies = studies
        self._fitted: dict[int, list[Posterior]] = {}

    def columns(
        self,
        objective: int,
        encoding: SpaceEncoding,
        inputs_of: Callable[[Sequence[Params]], Inputs],
        inputs: Sequence[Inputs],
    ) -> list[Array]:
        """Return the standardised predictions (n, p) of an objective for each set of candidates, one column per study that knows it.

        Args:
            inputs_of: makes inputs of params, with their costs on the present device.
            inputs: sets of candidates; columns are centred by the mean of the first one.
        """
        if objective not in self._fitted:
            found = (self._fit(study, objective, encoding, inputs_of) for study in self._studies)
            self._fitted[objective] = [posterior for posterior in found if posterior is not None]
        posteriors = self._fitted[objective]
        columns = [
            np.stack([posterior.mean(item) for posterior in posteriors], axis=1)
            if posteriors
            else np.zeros((len(item), 0))
            for item in inputs
        ]
        centre = columns[0].mean(axis=0) if len(columns[0]) else np.zeros(len(posteriors))
        return [item - centre for item in columns]

    def _fit(
        self,
        study: EarlierTrials,
        objective: int,
        encoding: SpaceEncoding,
        inputs_of: Callable[[Sequence[Params]], Inputs],
    ) -> Posterior | None:
        usable = [
            at for at, row in enumerate(study.rows) if np.isfinite(study.values[at, objective]) and encoding.whole(row)
        ][:_MOST]
        values = study.values[usable, objective]
        if len(usable) < _LEAST or not values.std() > 0.0:
            return None
        inputs = inputs_of([study.rows[at] for at in usable])
        standard = (values - values.mean()) / values.std()
        surrogate = Surrogate()
        surrogate.fit(inputs, standard)
        return surrogate.condition(inputs, standard)
