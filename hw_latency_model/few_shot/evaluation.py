"""Few-shot models on a table of latencies: some networks of a device measured, the others judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from hw_latency_model.few_shot.kernels import Rows
from hw_latency_model.few_shot.transfer import FewShotModel
from search_spaces._common.errors import UserError

Array = NDArray[np.float64]

SELECTIONS = ("active", "random")
FIGURES = ("spearman", "mape", "median", "within5", "within10", "within25", "coverage90", "half_width")
"""Figures of `accuracy`; all shares are from 0 to 1."""


@dataclass(frozen=True)
class Trial:
    """One few-shot fit.

    Attributes:
        measured: (n,) rows whose latencies the model was given.
        figures: `accuracy` on the judged rows; None where there are fewer than three.
    """

    measured: Rows
    figures: dict[str, float] | None


def fit_and_judge(
    model: FewShotModel,
    latency_ms: Array,
    count: int,
    *,
    seed: int,
    selection: str,
    allowed: Rows | None = None,
    judged: Rows | None = None,
) -> Trial:
    """Give a model the latencies of ``count`` networks, and judge it on others; the model is fitted afterwards.

    Args:
        latency_ms: (networks,) on the target, NaN where not measured.
        selection: ``active``: chosen by the model without the target's latencies; ``random``.
        allowed: rows that may be measured; all with a latency by default.
        judged: rows that are judged if they were not measured; all with a latency by default.

    Raises:
        UserError: fewer networks than ``count`` may be measured.
    """
    known = np.flatnonzero(np.isfinite(latency_ms))
    rows = known if allowed is None else np.intersect1d(allowed, known)
    if selection == "active":
        measured = model.suggest(count, seed=seed, allowed=rows)
    elif count > len(rows):
        raise UserError(f"{count} networks cannot be drawn from {len(rows)}; ask for fewer.")
    else:
        measured = np.random.default_rng(seed).permutation(rows)[:count]
    model.fit(measured, latency_ms[measured])
    rest = np.setdiff1d(known if judged is None else np.intersect1d(judged, known), measured)
    if len(rest) < 3:
        return Trial(measured, None)
    found = model.predict(rest)
    return Trial(measured, accuracy(found.latency_ms, found.low_ms, found.high_ms, latency_ms[rest]))


def accuracy(predicted_ms: Array, low_ms: Array, high_ms: Array, measured_ms: Array) -> dict[str, float]:
    """Compute ``FIGURES`` of predictions (m,): Spearman's ρ; mean and median relative error; shares within 5, 10 and 25 % and inside the
    interval; median half width of the interval as a share of the prediction."""
    error = np.abs(predicted_ms / measured_ms - 1.0)
    return {
        "spearman": float(spearmanr(predicted_ms, measured_ms).statistic),
        "mape": float(error.mean()),
        "median": float(np.median(error)),
        **{f"within{share}": float((error <= share / 100).mean()) for share in (5, 10, 25)},
        "coverage90": float(((low_ms <= measured_ms) & (measured_ms <= high_ms)).mean()),
        "half_width": float(np.median((high_ms - low_ms) / (2.0 * predicted_ms))),
    }
