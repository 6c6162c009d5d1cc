"""A study of thousands of trials with invented results, in a real database, as a launch would have stored it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from objectives import trial_record as tr
from objectives.optuna_private import storage_of, study_id
from objectives.trial_record import Outcome, TrialRecord
from objectives.trial_score import TrialScore
from search_spaces import open_space
from search_spaces.candidate import Candidate
from trial_runner.config.study import StudyConfig
from trial_runner.study.objectives import note_class_names, open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.study.storage import store_config
from trial_runner.study.trial_kernels import store_kernels

CLASSES = ("background", "building", "debris", "flood", "person", "road", "vegetation", "vehicle")
_START = datetime(2026, 11, 1, 8, 0, 0)
_EPOCH_S, _WORKERS = 20.0, 4
_REFUSED_EVERY, _FAILED_EVERY = 7, 97


def make_long_study(config: StudyConfig, trials: int) -> optuna.Study:
    """Fill the database of ``config`` with trials of all outcomes, with curves and times of four workers; deterministic.

    The hyperparameters, widths and resolutions decide the results, beside noise. A third of the trained ones is stopped at each rung.
    """
    paths = StudyPaths(config.study.output_dir)
    paths.root.mkdir(parents=True, exist_ok=True)
    study = open_configured(config, create=True)
    store_config(config, study, paths)
    note_class_names(study, CLASSES)
    rng = np.random.default_rng(config.study.seed)
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.study.seed))
    space, free = open_space(config.space), [0.0] * _WORKERS
    made = []
    for number in range(trials):
        trial = drawn.ask()
        candidate = space.suggest(trial)
        made.append(_trial(config, number, candidate, trial.params, trial.distributions, rng, free))
    _insert(study, made)
    return open_configured(config)


def store_kernels_of(config: StudyConfig, records: Iterable[TrialRecord]) -> None:
    """Store the kernels of trials that were not refused in their folders, as a launch does."""
    from trial_runner.constraints.latency import LatencyConstraint
    from trial_runner.constraints.latency_models import load_latency_model

    paths, space = StudyPaths(config.study.output_dir), open_space(config.space)
    gate = LatencyConstraint(space, len(CLASSES), load_latency_model(config), config.device.latency_budget_ms)
    for record in records:
        candidate = record.candidate
        if candidate is not None and record.outcome != Outcome.INFEASIBLE:
            kernels = gate.table(candidate).kernels
            store_kernels(paths.trial(record.number), candidate, None, len(CLASSES), gate.runtime(candidate), kernels)


def _insert(study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Insert the rows of finished trials at once; Optuna's ``add_trial`` takes a quarter of a second for each."""
    engine, trial_rows = storage_of(study)._backend.engine, models.TrialModel.__table__  # type: ignore[attr-defined]
    rows: dict[Any, list[dict[str, Any]]] = {
        model: []
        for model in (
            models.TrialParamModel,
            models.TrialValueModel,
            models.TrialIntermediateValueModel,
            models.TrialUserAttributeModel,
            models.TrialSystemAttributeModel,
        )
    }
    finite = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
    with engine.begin() as connection:
        for trial in trials:
            own = {"number": trial.number, "study_id": study_id(study), "state": trial.state}
            times = {"datetime_start": _utc(trial.datetime_start), "datetime_complete": _utc(trial.datetime_complete)}
            at = {"trial_id": connection.execute(trial_rows.insert().values(**own, **times)).inserted_primary_key[0]}
            rows[models.TrialParamModel] += [
                {
                    **at,
                    "param_name": name,
                    "param_value": axis.to_internal_repr(trial.params[name]),
                    "distribution_json": distribution_to_json(axis),
                }
                for name, axis in trial.distributions.items()
            ]
            rows[models.TrialValueModel] += [
                {**at, "objective": index, "value": value, "value_type": models.TrialValueModel.TrialValueType.FINITE}
                for index, value in enumerate(trial.values or ())
            ]
            rows[models.TrialIntermediateValueModel] += [
                {**at, "step": step, "intermediate_value": value, "intermediate_value_type": finite}
                for step, value in trial.intermediate_values.items()
            ]
            for model, attributes in (
                (models.TrialUserAttributeModel, trial.user_attrs),
                (models.TrialSystemAttributeModel, trial.system_attrs),
            ):
                rows[model] += [
                    {**at, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()
                ]
        for model, values in rows.items():
            connection.execute(model.__table__.insert(), values)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None


def _trial(
    config: StudyConfig,
    number: int,
    candidate: Candidate,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    rng: np.random.Generator,
    free: list[float],
) -> FrozenTrial:
    values = candidate.params
    height, width = (int(side) for side in str(values.get("resolution", "96x128")).split("x"))
    pixels, pruned = height * width / (96 * 128), float(values.get("prune_ratio", 0.0))
    size = float(values.get("width", 1.0)) ** 1.5 * (1 - 0.7 * pruned)
    budget_ms = config.device.latency_budget_ms
    latency_ms = budget_ms * (0.08 + 0.85 * size * pixels) * float(rng.lognormal(0, 0.15))
    refused = number % _REFUSED_EVERY == 3
    latency_ms = budget_ms * float(rng.uniform(1.2, 3)) if refused else min(latency_ms, budget_ms)
    rate = float(values.get("learning_rate", 1e-3))
    best = 0.28 + 0.16 * np.log1p(3 * size * pixels) - 0.05 * np.log10(rate / 3e-3) ** 2 + rng.normal(0, 0.015)
    attributes: dict[str, Any] = {
        tr.CANDIDATE: candidate.to_dict(),
        tr.ESTIMATE: {
            "latency_ms": latency_ms,
            "low_ms": 0.9 * latency_ms,
            "high_ms": 1.12 * latency_ms,
            "coverage": 0.97,
            "unknown_kinds": [],
        },
    }
    epochs, rungs = config.training.epochs, config.search.early_stopping.rungs_epochs
    state, outcome, reason, ended = TrialState.COMPLETE, Outcome.FINISHED, None, epochs
    if refused:
        state, outcome, ended = TrialState.PRUNED, Outcome.INFEASIBLE, 0
        reason = f"predicted latency {latency_ms:.3g} ms is over {budget_ms:g} ms"
    elif number % _FAILED_EVERY == 5:
        state, outcome, ended = TrialState.FAIL, Outcome.FAILED, 2
        reason = "the loss became NaN in epoch 2; lower learning_rate"
    else:
        for rung in rungs:
            if rng.random() < 0.33:
                state, outcome, ended = TrialState.PRUNED, Outcome.STOPPED, rung
                reason = f"rank 3 of 4 by non-dominated sorting at the rung of epoch {rung}"
                break
    curve = {
        epoch: float(np.clip(best * (1 - 0.8 * 0.6**epoch) + rng.normal(0, 0.006), 0, 1))
        for epoch in range(1, ended + 1)
    }
    worker = int(np.argmin(free))
    started = free[worker]
    took = 0.2 if refused else ended * _EPOCH_S * (0.3 + size * pixels)
    free[worker] = started + took + (0.0 if refused else 3.0)
    if curve and outcome != Outcome.FAILED:
        spread = rng.normal(0, 0.1, len(CLASSES))
        ious = tuple(float(iou) for iou in np.clip(curve[ended] + spread - spread.mean(), 0.02, 0.95))
        macs, count = int(4e7 * size * pixels) + 1, int(1.6e6 * size) + 1
        attributes[tr.SCORE] = TrialScore(curve[ended], ended, epochs, macs, count, took, ious).to_dict()
    shown = {name: fact for key, value in attributes.items() for name, fact in tr.short_facts(key, value).items()}
    shown |= {tr.OUTCOME: outcome, **({tr.REASON: reason} if reason else {})}
    system = {tr.system_name(key): value for key, value in attributes.items()}
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        values=[curve[ended], latency_ms] if state == TrialState.COMPLETE else None,
        datetime_start=_START + timedelta(seconds=started),
        datetime_complete=_START + timedelta(seconds=started + took),
        params=params,
        distributions=distributions,
        user_attrs=shown,
        system_attrs={**system, "constraints": [latency_ms - budget_ms]},
        intermediate_values=curve,
        trial_id=number,
    )
