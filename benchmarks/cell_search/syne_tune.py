"""Syne Tune's multi-objective methods on the table of cells; imported only where syne-tune is installed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice
from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
from syne_tune.optimizer.schedulers.multiobjective.multi_objective_regularized_evolution import (
    MultiObjectiveRegularizedEvolution,
)

from benchmarks.cell_search.simulate import Ticket
from benchmarks.cell_search.table import PARAMS
from hw_latency_model.few_shot.cell_networks import OPS

POPULATION = 20
_METRICS = ("error", "latency_ms")


class RegularizedEvolution:
    """MO-REA with non-dominated sorting."""

    def __init__(self, seed: int) -> None:
        self._searcher = MultiObjectiveRegularizedEvolution(_space(), population_size=POPULATION, random_seed=seed)
        self._asked = 0

    def ask(self) -> tuple[Ticket, Mapping[str, str]]:
        config = self._searcher.suggest()
        self._asked += 1
        return (self._asked, config), config

    def tell(self, ticket: Ticket, accuracy: float, latency_ms: float) -> None:
        number, config = ticket
        self._searcher.on_trial_complete(number, config, [-accuracy, latency_ms])


class SuccessiveHalving:
    """MO-ASHA. The table has no learning curves, so no trial is stopped early: what is left is its random sampling."""

    def __init__(self, seed: int) -> None:
        self._scheduler = MOASHA(_space(), list(_METRICS), time_attr="epoch", max_t=1, grace_period=1, random_seed=seed)
        self._asked = 0
        np.random.seed(seed)  # noqa: NPY002 (its sampling draws from the global state)

    def ask(self) -> tuple[Ticket, Mapping[str, str]]:
        suggestion = self._scheduler.suggest()
        trial = Trial(self._asked, suggestion.config, datetime(2026, 1, 1))
        self._scheduler.on_trial_add(trial)
        self._asked += 1
        return trial, suggestion.config

    def tell(self, ticket: Ticket, accuracy: float, latency_ms: float) -> None:
        self._scheduler.on_trial_result(
            ticket, dict(zip(_METRICS, (-accuracy, latency_ms), strict=True)) | {"epoch": 1}
        )


def _space() -> dict[str, Any]:
    return {name: choice(list(OPS)) for name in PARAMS}
