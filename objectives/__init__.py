"""How good a candidate is: data sets, mIoU, cost, the trial record, the Pareto front and its hypervolume."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from objectives.cost import count_macs, count_params
    from objectives.hypervolume import hypervolume, hypervolume_2d
    from objectives.metrics import ClassReport, ConfusionMatrix
    from objectives.objective import METRICS, Objective, get_objective
    from objectives.pareto import ParetoFront, non_dominated_rank, pareto_front, reference_point
    from objectives.trial_record import TrialRecord, read_study
    from objectives.trial_score import TrialScore

__all__ = [
    "METRICS",
    "ClassReport",
    "ConfusionMatrix",
    "Objective",
    "ParetoFront",
    "TrialRecord",
    "TrialScore",
    "count_macs",
    "count_params",
    "get_objective",
    "hypervolume",
    "hypervolume_2d",
    "non_dominated_rank",
    "pareto_front",
    "read_study",
    "reference_point",
]

# Looked up on first use: `import objectives.data` must not pay for optuna, nor `import objectives.pareto` for torch.
_HOME = {
    "METRICS": "objective",
    "ClassReport": "metrics",
    "ConfusionMatrix": "metrics",
    "Objective": "objective",
    "ParetoFront": "pareto",
    "TrialRecord": "trial_record",
    "TrialScore": "trial_score",
    "count_macs": "cost",
    "count_params": "cost",
    "get_objective": "objective",
    "hypervolume": "hypervolume",
    "hypervolume_2d": "hypervolume",
    "non_dominated_rank": "pareto",
    "pareto_front": "pareto",
    "read_study": "trial_record",
    "reference_point": "pareto",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"objectives.{_HOME[name]}"), name)
