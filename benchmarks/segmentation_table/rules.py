"""Early-stopping rules of others in the place of the product's, each as its package offers it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import optuna

from objectives.objective import OBJECTIVES
from objectives.rung_reliability import Rung
from objectives.trial_record import TrialRecord
from trial_runner.config.study import EarlyStoppingSection, SearchSection
from trial_runner.search.early_stopping import MultiObjectiveASHA

FACTOR = 3.0
_PRUNER = "pruners/multi_metric_pruner"


class Unavailable(Exception):
    """A rule's package is not installed."""


class AccuracyASHA(MultiObjectiveASHA):
    """ASHA by mIoU alone: a trial continues among the best ``1 / FACTOR`` of those that reached the rung."""

    def __init__(self, rungs: Sequence[int]) -> None:
        super().__init__(_rungs(rungs), OBJECTIVES)
        self._reached: dict[int, dict[int, float]] = {}

    def stop(self, number: int, rung: Rung, values: Sequence[float], precision: str | None = None) -> str | None:
        reached = self._reached.setdefault(rung.epoch, {})
        reached[number] = values[0]
        better = sum(value > values[0] for value in reached.values())
        return None if better < math.ceil(len(reached) / FACTOR) else f"{better} of {len(reached)} had a higher mIoU"


class SyneTuneMOASHA(MultiObjectiveASHA):
    """Syne Tune's MO-ASHA: non-dominated sorting with an epsilon-net, rungs at powers of the factor.

    Raises:
        Unavailable: syne-tune is not installed.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__(_rungs(range(1, epochs)), OBJECTIVES)
        try:
            from syne_tune.optimizer.schedulers.asha import Bracket
            from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import NonDominatedPriority
        except ModuleNotFoundError as error:
            raise Unavailable("syne-tune is not installed; run: pip install 'paretoseg[benchmarks]'") from error
        self._bracket = Bracket(1, epochs, FACTOR, 0, NonDominatedPriority())

    def stop(self, number: int, rung: Rung, values: Sequence[float], precision: str | None = None) -> str | None:
        action = self._bracket.on_result(number, rung.epoch, {"error": -values[0], "latency_ms": values[1]})
        return "MO-ASHA stops it" if action == "STOP" else None


class MultiMetricPruner(MultiObjectiveASHA):
    """OptunaHub's multi_metric_pruner over a median pruner, as in its own example: by Pareto rank at each epoch.

    Args:
        registry: folder `package` of a copy of OptunaHub's registry; None to load it from GitHub.

    Raises:
        Unavailable: optunahub is not installed, or the registry cannot be reached.
    """

    def __init__(self, epochs: int, registry: str | None) -> None:
        super().__init__(_rungs(range(1, epochs)), OBJECTIVES)
        self._hub = _hub_module(registry)
        directions = {"miou": "maximize", "latency_ms": "minimize"}
        pruner = self._hub.MultiMetricPruner(
            optuna.pruners.MedianPruner(n_startup_trials=3), metric_directions=directions, joint=True
        )
        self._study = optuna.create_study(directions=list(directions.values()), pruner=pruner)
        self._trials: dict[int, optuna.Trial] = {}

    def stop(self, number: int, rung: Rung, values: Sequence[float], precision: str | None = None) -> str | None:
        if number not in self._trials:
            self._trials[number] = self._study.ask()
        trial = self._hub.MultiMetricPrunerTrial(self._trials[number])
        trial.report({"miou": values[0], "latency_ms": values[1]}, rung.epoch)
        return "multi_metric_pruner stops it" if trial.should_prune() else None

    def finished(self, record: TrialRecord) -> None:
        super().finished(record)
        trial = self._trials.pop(record.number, None)
        if trial is None:
            return
        if record.complete and record.score is not None and record.latency_ms is not None:
            self._study.tell(trial, [record.score.val_miou, record.latency_ms])
        else:
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def _rungs(epochs: Sequence[int]) -> SearchSection:
    return SearchSection(early_stopping=EarlyStoppingSection(rungs_epochs=list(epochs)))


def _hub_module(registry: str | None) -> Any:
    try:
        import optunahub

        if registry is not None:
            return optunahub.load_local_module(_PRUNER, registry_root=registry)
        return optunahub.load_module(_PRUNER)
    except ModuleNotFoundError as error:
        raise Unavailable("optunahub is not installed; run: pip install 'paretoseg[benchmarks]'") from error
    except Exception as error:  # of GitHub's client: no route, a limit of requests, no such package
        raise Unavailable(f"OptunaHub's registry cannot be read ({error}); give --registry DIR") from error


def rules(epochs: int, registry: str | None) -> dict[str, Callable[[], MultiObjectiveASHA]]:
    """Return the rules by name; each call makes a new one."""
    return {
        "asha by miou": lambda: AccuracyASHA([1, epochs // 2]),
        "mo-asha": lambda: SyneTuneMOASHA(epochs),
        "multi_metric_pruner": lambda: MultiMetricPruner(epochs, registry),
    }
