"""Latency, MACs and weights of every architecture of the space, predicted once: a replay then builds no network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from hw_latency_model import LatencyEstimate, LatencyModel
from search_spaces import Candidate, SearchSpace
from search_spaces._common.files import write_json
from trial_runner.constraints.latency import LatencyConstraint

Costs = tuple[LatencyEstimate, float, float]
"""Latency, MACs, bytes of weights."""


class StoredCosts(LatencyConstraint):
    """Latency constraint that looks up what it was given for an architecture.

    Args:
        costs: by `SearchSpace.architecture_id`; an architecture without an entry is predicted as usual.
    """

    def __init__(
        self, space: SearchSpace, num_classes: int, model: LatencyModel, budget_ms: float, costs: Mapping[str, Costs]
    ) -> None:
        super().__init__(space, num_classes, model, budget_ms)
        self._space, self._costs = space, costs

    def _stored(self, candidate: Candidate) -> Costs | None:
        return self._costs.get(self._space.architecture_id(candidate))

    def estimate(self, candidate: Candidate) -> LatencyEstimate:
        stored = self._stored(candidate)
        return super().estimate(candidate) if stored is None else stored[0]

    def estimate_many(self, candidates: Sequence[Candidate]) -> list[LatencyEstimate]:
        return [self.estimate(item) for item in candidates]

    def macs(self, candidate: Candidate) -> float:
        stored = self._stored(candidate)
        return super().macs(candidate) if stored is None else stored[1]

    def weight_bytes(self, candidate: Candidate) -> float:
        stored = self._stored(candidate)
        return super().weight_bytes(candidate) if stored is None else stored[2]


def costs_of_all(space: SearchSpace, num_classes: int, model: LatencyModel, path: Path, jobs: int) -> dict[str, Costs]:
    """Read the costs of all architectures of a space from a file; predict and store them where it is not there, or of another
    latency model."""
    default = LatencyConstraint(space, num_classes, model, 1.0).estimate(space.default())
    identity = {"fitted_at": model.fitted_at, "default": default.to_dict(), "space": [space.name, space.version]}
    stored = json.loads(path.read_text()) if path.is_file() else {}
    if stored.get("of") != identity:
        print("predicting the costs of all architectures", flush=True)
        choices = {item.name: item.choices for item in space.dimensions if hasattr(item, "choices")}
        parts = [(space, num_classes, model, {**choices, "family": (name,)}) for name in choices["family"]]
        with ProcessPoolExecutor(jobs) as pool:
            found = dict(itertools.chain.from_iterable(pool.map(_costs_of, parts)))
        stored = {"of": identity, "costs": found}
        write_json(path, stored)
    return {
        key: (LatencyEstimate.from_dict(estimate), macs, weights)
        for key, (estimate, macs, weights) in stored["costs"].items()
    }


def _costs_of(part: tuple[SearchSpace, int, LatencyModel, Mapping[str, Sequence[Any]]]) -> list[tuple[str, list[Any]]]:
    space, num_classes, model, choices = part
    gate = LatencyConstraint(space, num_classes, model, 1.0)
    rest = {name: value for name, value in space.default().params.items() if name not in choices}
    rows = [
        space.candidate({**rest, **dict(zip(choices, values, strict=True))})
        for values in itertools.product(*choices.values())
    ]
    estimates = gate.estimate_many(rows)
    return [
        (space.architecture_id(row), [estimate.to_dict(), gate.macs(row), gate.weight_bytes(row)])
        for row, estimate in zip(rows, estimates, strict=True)
    ]
