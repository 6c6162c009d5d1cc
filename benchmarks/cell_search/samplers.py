"""The samplers compared on the table of cells, each by its own package's defaults where the literature names no setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from optuna.samplers import GPSampler, NSGAIISampler, RandomSampler, TPESampler

from benchmarks.cell_search.simulate import OptunaSearcher, Searcher, Ticket, distributions
from benchmarks.cell_search.table import PARAMS, CellTable
from hw_latency_model.few_shot.cell_networks import OPS
from trial_runner.search.known_cost import KnownCosts, KnownCostSampler

POPULATION = 20
_INITIAL = 10
_POOL = 800
_MC_SAMPLES = 32


class Unavailable(Exception):
    """A sampler's package is not installed."""


def searcher(name: str, table: CellTable, seed: int) -> Searcher:
    """Make a searcher by its name in `SAMPLERS`.

    Raises:
        Unavailable: it needs a package that is not installed.
    """
    return SAMPLERS[name](table, seed)


def _known_cost(table: CellTable, seed: int) -> Searcher:
    costs = KnownCosts(table.costs, objectives={1: 0}, deviations={0: 3})
    return OptunaSearcher(KnownCostSampler(costs, search_space=distributions(), references={0: 0.0}, seed=seed))


def _random(table: CellTable, seed: int) -> Searcher:
    return OptunaSearcher(RandomSampler(seed=seed))


def _nsga2(table: CellTable, seed: int) -> Searcher:
    return OptunaSearcher(NSGAIISampler(population_size=POPULATION, seed=seed))


def _tpe(table: CellTable, seed: int) -> Searcher:
    return OptunaSearcher(TPESampler(multivariate=True, n_startup_trials=_INITIAL, seed=seed))


def _gp(table: CellTable, seed: int) -> Searcher:
    return OptunaSearcher(GPSampler(n_startup_trials=_INITIAL, seed=seed))


def _botorch(table: CellTable, seed: int) -> Searcher:
    try:
        import botorch  # noqa: F401
    except ModuleNotFoundError as error:
        raise Unavailable("botorch is not installed; run: pip install 'paretoseg[benchmarks]'") from error
    return BoTorchSearcher(table, seed)


def _mo_rea(table: CellTable, seed: int) -> Searcher:
    searcher: Searcher = _syne_tune().RegularizedEvolution(seed)
    return searcher


def _mo_asha(table: CellTable, seed: int) -> Searcher:
    searcher: Searcher = _syne_tune().SuccessiveHalving(seed)
    return searcher


def _syne_tune() -> Any:
    try:
        from benchmarks.cell_search import syne_tune
    except ModuleNotFoundError as error:
        raise Unavailable(f"syne-tune is not installed ({error}); run: pip install 'paretoseg[benchmarks]'") from error
    return syne_tune


class BoTorchSearcher:
    """qLogNEHVI with both objectives unknown: one-hot operations, a GP per objective, the best of a random pool."""

    def __init__(self, table: CellTable, seed: int) -> None:
        self._reference = [0.0, -table.reference[1]]
        self._rng = np.random.default_rng(seed)
        self._seed = seed
        self._points: dict[int, tuple[str, ...]] = {}
        self._values: dict[int, tuple[float, float]] = {}

    def ask(self) -> tuple[Ticket, Mapping[str, str]]:
        ticket = len(self._points)
        pool = [tuple(OPS[index] for index in row) for row in self._rng.integers(len(OPS), size=(_POOL, len(PARAMS)))]
        pool = [point for point in pool if point not in set(self._points.values())]
        point = pool[0] if len(self._values) < _INITIAL else self._best(pool)
        self._points[ticket] = point
        return ticket, dict(zip(PARAMS, point, strict=True))

    def tell(self, ticket: Ticket, accuracy: float, latency_ms: float) -> None:
        self._values[ticket] = accuracy, -latency_ms

    def _best(self, pool: list[tuple[str, ...]]) -> tuple[str, ...]:
        import torch
        from botorch import fit_gpytorch_mll
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.transforms import Standardize
        from botorch.sampling import SobolQMCNormalSampler
        from gpytorch.mlls import SumMarginalLogLikelihood

        torch.manual_seed(self._seed)
        known = _one_hot([self._points[ticket] for ticket in self._values])
        values = torch.tensor(list(self._values.values()), dtype=torch.float64)
        model = ModelListGP(
            *(SingleTaskGP(known, values[:, [at]], outcome_transform=Standardize(1)) for at in range(2))
        )
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        pending = [point for ticket, point in self._points.items() if ticket not in self._values]
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model,
            ref_point=self._reference,
            X_baseline=known,
            X_pending=_one_hot(pending) if pending else None,
            sampler=SobolQMCNormalSampler(torch.Size([_MC_SAMPLES]), seed=self._seed),
            prune_baseline=True,
        )
        candidates = _one_hot(pool).unsqueeze(1)
        with torch.no_grad():
            scores = torch.cat([acquisition(part) for part in candidates.split(200)])
        return pool[int(scores.argmax())]


def _one_hot(points: list[tuple[str, ...]]) -> Any:
    import torch

    rows = [[float(op == known) for op in point for known in OPS] for point in points]
    return torch.tensor(rows, dtype=torch.float64)


SAMPLERS: dict[str, Callable[[CellTable, int], Searcher]] = {
    "known_cost": _known_cost,
    "random": _random,
    "nsga2": _nsga2,
    "tpe": _tpe,
    "gp": _gp,
    "botorch": _botorch,
    "mo_rea": _mo_rea,
    "mo_asha": _mo_asha,
}
