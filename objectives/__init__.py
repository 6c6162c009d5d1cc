"""How good a candidate is: data sets, mIoU, cost, the trial record, the Pareto front and its hypervolume."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from objectives.cost import count_macs, count_params
    from objectives.metrics import ClassReport, ConfusionMatrix
    from objectives.pareto import ParetoFront, hypervolume_2d, non_dominated_rank, pareto_front, reference_point
    from objectives.storage_url import redact_url
    from objectives.trial_record import TrialRecord, read_study
    from objectives.trial_score import TrialScore

__all__ = [
    "ClassReport",
    "ConfusionMatrix",
    "ParetoFront",
    "TrialRecord",
    "TrialScore",
    "count_macs",
    "count_params",
    "hypervolume_2d",
    "non_dominated_rank",
    "pareto_front",
    "read_study",
    "redact_url",
    "reference_point",
]

# Looked up on first use: `import objectives.data` must not pay for optuna, nor `import objectives.pareto` for torch.
_HOME = {
    "ClassReport": "metrics",
    "ConfusionMatrix": "metrics",
    "ParetoFront": "pareto",
    "TrialRecord": "trial_record",
    "TrialScore": "trial_score",
    "count_macs": "cost",
    "count_params": "cost",
    "hypervolume_2d": "pareto",
    "non_dominated_rank": "pareto",
    "pareto_front": "pareto",
    "read_study": "trial_record",
    "redact_url": "storage_url",
    "reference_point": "pareto",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"objectives.{_HOME[name]}"), name)
