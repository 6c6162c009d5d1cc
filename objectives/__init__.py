"""Data sets, mIoU, cost, the trial record, the Pareto front and its hypervolume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces._common.lazy import lazy_exports

if TYPE_CHECKING:
    from objectives.cost import count_macs as count_macs, count_params as count_params
    from objectives.hypervolume import hypervolume_2d as hypervolume_2d
    from objectives.metrics import ClassReport as ClassReport, ConfusionMatrix as ConfusionMatrix
    from objectives.objective import METRICS as METRICS, Objective as Objective, get_objective as get_objective
    from objectives.pareto import (
        ParetoFront as ParetoFront,
        non_dominated_rank as non_dominated_rank,
        pareto_front as pareto_front,
        reference_point as reference_point,
    )
    from objectives.trial_record import TrialRecord as TrialRecord, read_study as read_study
    from objectives.trial_score import TrialScore as TrialScore

# `import objectives.data` must not import optuna, nor `import objectives.pareto` torch.
__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "cost": ("count_macs", "count_params"),
        "hypervolume": ("hypervolume_2d",),
        "metrics": ("ClassReport", "ConfusionMatrix"),
        "objective": ("METRICS", "Objective", "get_objective"),
        "pareto": ("ParetoFront", "non_dominated_rank", "pareto_front", "reference_point"),
        "trial_record": ("TrialRecord", "read_study"),
        "trial_score": ("TrialScore",),
    },
)
