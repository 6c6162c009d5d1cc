"""A realistic study, written to a real Optuna storage as the runner writes it, read back through the record schema."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from sample_measurement import sample_measurement

from objectives import trial_record as tr
from objectives.objective import OBJECTIVES
from objectives.pareto import pareto_front
from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate

CLASSES = (
    "background", "avalanche", "building_undamaged", "building_damaged", "cracks", "debris", "fire", "flood", "ice",
    "lava", "person", "road", "vegetation", "vehicle",
)  # fmt: skip
FAMILIES = {"mobilenetv2_100": 1.0, "ghostnet_100": 1.15, "resnet18": 1.9, "regnetx_002": 0.8, "fbnetc_100": 1.1}
BUDGET_MS = 12.0
EPOCHS = 9


def build_study(
    storage: str | None = None, *, trials: int = 40, measured: bool = True, name: str = "demo"
) -> optuna.Study:
    """``trials`` trials of all outcomes; every front member of the finished ones is measured."""
    rng = np.random.default_rng(3)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[item.direction for item in OBJECTIVES],
        sampler=optuna.samplers.RandomSampler(seed=1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([item.name for item in OBJECTIVES])
    for number in range(trials):
        trial = study.ask()
        params = {
            "family": trial.suggest_categorical("family", list(FAMILIES)),
            "decoder": trial.suggest_categorical("decoder", ["lraspp", "fpn"]),
            "width": trial.suggest_categorical("width", [0.5, 0.75, 1.0]),
            "resolution": trial.suggest_categorical("resolution", ["96x128", "128x160", "160x224"]),
            "prune_ratio": trial.suggest_categorical("prune_ratio", [0.0, 0.25, 0.5]),
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-3, log=True),
        }
        trial.set_user_attr(tr.CANDIDATE, Candidate("encoder_decoder", 1, params).to_dict())
        pixels = {"96x128": 1.0, "128x160": 1.67, "160x224": 2.9}[params["resolution"]]
        size = FAMILIES[params["family"]] * params["width"] ** 1.5 * (1 - 0.7 * params["prune_ratio"])
        latency = 2.1 * size * pixels * (1.5 if params["decoder"] == "fpn" else 1.0) + 0.4
        if number % 13 == 12:
            latency *= 6
        quality = 0.20 + 0.13 * np.log1p(size * pixels) + 0.03 * (params["decoder"] == "fpn") + rng.normal(0, 0.02)
        trial.set_user_attr(
            tr.ESTIMATE,
            {"latency_ms": latency, "low_ms": latency * 0.9, "high_ms": latency * 1.13, "coverage": 0.97,
             "unknown_kinds": ["resize"]},
        )  # fmt: skip
        over = latency - BUDGET_MS
        if over > 0:
            trial.set_user_attr(tr.OUTCOME, tr.Outcome.INFEASIBLE)
            trial.set_user_attr(
                tr.REASON,
                f"predicted latency {latency:.1f} ms [{latency * 0.9:.1f}, {latency * 1.13:.1f}] is over 12 ms",
            )
            study.tell(trial, state=TrialState.PRUNED)
            continue
        if number % 17 == 5:
            trial.set_user_attr(tr.OUTCOME, tr.Outcome.FAILED)
            trial.set_user_attr(tr.REASON, "the loss became NaN in epoch 2; lower learning_rate")
            study.tell(trial, state=TrialState.FAIL)
            continue
        ends = EPOCHS if number % 3 else (1 if number % 2 else 3)
        curve = [max(0.0, quality * (1 - 0.8 * 0.6**e) + rng.normal(0, 0.006)) for e in range(1, ends + 1)]
        for epoch, value in enumerate(curve, 1):
            study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
        ious = [float(np.clip(rng.normal(curve[-1], 0.13), 0.02, 0.95)) for _ in CLASSES]
        class_iou = (*ious[:8], None, *ious[9:])
        score = TrialScore(curve[-1], ends, EPOCHS, int(4e7 * size * pixels), int(1.6e6 * size), 3.2 * ends, class_iou)
        trial.set_user_attr(tr.SCORE, score.to_dict())
        if ends < EPOCHS:
            trial.set_user_attr(tr.OUTCOME, tr.Outcome.STOPPED)
            trial.set_user_attr(tr.REASON, f"rank 3 of 4 by non-dominated sorting at the rung of epoch {ends}")
            study.tell(trial, state=TrialState.PRUNED)
            continue
        trial.set_user_attr(tr.OUTCOME, tr.Outcome.FINISHED)
        study.tell(trial, [curve[-1], latency])
    if measured:
        for record in pareto_front(tr.read_study(study)).records:
            p50 = (record.latency_ms or 0) * float(rng.normal(1.02, 0.06))
            tr.store_later_facts(
                study, record.number, measurement=sample_measurement(p50), bundle=f"exports/trial-{record.number:04d}"
            )
    return study


@pytest.fixture
def make_study() -> Callable[..., optuna.Study]:
    return build_study


@pytest.fixture
def class_names() -> tuple[str, ...]:
    return CLASSES
