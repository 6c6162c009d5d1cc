"""Replay a search on a table of cells with simulated asynchronous workers."""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler

from benchmarks.cell_search.table import PARAMS, CellTable
from hw_latency_model.few_shot.cell_networks import OPS

Ticket = Any


class Searcher(Protocol):
    """Proposes cells and is told their objectives."""

    def ask(self) -> tuple[Ticket, Mapping[str, str]]:
        """Return a ticket and the operation on each edge."""

    def tell(self, ticket: Ticket, accuracy: float, latency_ms: float) -> None:
        """Report what the cell reached."""


class OptunaSearcher:
    """An Optuna sampler in a study in memory."""

    def __init__(self, sampler: BaseSampler) -> None:
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self._space: dict[str, BaseDistribution] = distributions()

    def ask(self) -> tuple[Ticket, Mapping[str, str]]:
        trial = self._study.ask(self._space)
        return trial, trial.params

    def tell(self, ticket: Ticket, accuracy: float, latency_ms: float) -> None:
        self._study.tell(ticket, [accuracy, latency_ms])


def distributions() -> dict[str, BaseDistribution]:
    """Return the search space: one of five operations on each of six edges."""
    return {name: CategoricalDistribution(OPS) for name in PARAMS}


def replay(
    table: CellTable, searcher: Searcher, evaluations: int, *, seed: int, workers: int = 1, noise: float = 0.0
) -> tuple[list[float], float]:
    """Evaluate so many cells; each takes between half and one and a half units of time.

    Args:
        noise: standard deviation of a normal error of the accuracy that the searcher is told, in per cent. The hypervolume is that of
            the true accuracies and latencies of all cells evaluated.

    Returns:
        The hypervolume after each evaluation, as a share of the true front's, and the CPU seconds of asking and telling.
    """
    rng = np.random.default_rng([seed, workers])
    whole = table.hypervolume()
    running: list[tuple[float, int, Ticket, int]] = []
    done: list[int] = []
    history: list[float] = []
    now, asked, spent = 0.0, 0, 0.0
    while len(done) < evaluations:
        while len(running) < workers and asked < evaluations:
            begun = time.process_time()
            ticket, params = searcher.ask()
            spent += time.process_time() - begun
            heapq.heappush(running, (now + rng.uniform(0.5, 1.5), asked, ticket, table.row(params)))
            asked += 1
        now, _, ticket, row = heapq.heappop(running)
        accuracy = float(table.accuracy[row]) + (noise * float(rng.normal()) if noise else 0.0)
        begun = time.process_time()
        searcher.tell(ticket, accuracy, float(table.predicted_ms[row]))
        spent += time.process_time() - begun
        done.append(row)
        history.append(table.hypervolume(list(dict.fromkeys(done))) / whole)
    return history, spent
