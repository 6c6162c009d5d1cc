"""Custom metrics of a study: functions named by a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from objectives.custom_metric import SegmentationMetric, SplitPredictions
from objectives.objective import is_custom
from search_spaces._common.references import resolve_callable
from trial_runner.config.study import StudyConfig
from trial_runner.training.trial_spec import TrialFailed


def load_metrics(config: StudyConfig) -> dict[str, SegmentationMetric]:
    """Import the custom metrics among a study's objectives, by reference.

    Raises:
        UserError: a reference names nothing that can be called.
    """
    names = (item.name for item in config.objectives)
    return {name: resolve_callable(name, "objectives.name") for name in names if is_custom(name)}


def compute_metrics(metrics: Mapping[str, SegmentationMetric], split: SplitPredictions) -> dict[str, float]:
    """Compute the value of each metric; values that are not finite are omitted.

    Raises:
        TrialFailed: a metric returned something else than a number.
    """
    found = {}
    for name, metric in metrics.items():
        value = metric(split)
        if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
            raise TrialFailed(f"the metric {name} must return a number, but returned {value!r}")
        if math.isfinite(value):
            found[name] = float(value)
    return found
