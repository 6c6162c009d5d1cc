"""Inputs of the report of a study; the package `dashboards` renders them."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import optuna

from dashboards import ReportInputs, write_report
from dashboards.study_report.inputs import TargetFront
from hw_latency_model.file_names import REPORT_FILE
from hw_latency_model.model.custom import CustomLatencyModel
from objectives.pareto import pareto_front
from objectives.trial_record import read_study
from search_spaces._common.errors import UserError
from trial_runner.config.load import dump_config
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency_models import load_latency_model
from trial_runner.front.kernel_times import winner_kernels
from trial_runner.front.targets import target_view
from trial_runner.search.early_stopping import rungs_of
from trial_runner.study.environment import environment_of
from trial_runner.study.objectives import CLASS_NAMES, stored_objectives
from trial_runner.study.paths import StudyPaths
from trial_runner.study.refits import stored_refits


def write_study_report(config: StudyConfig, study: optuna.Study, paths: StudyPaths, page: Path | None = None) -> Path:
    """Write the HTML report on the current state of the study; return its path."""
    records = read_study(study, config.study.output_dir)
    front = pareto_front(records, objectives=stored_objectives(config, study))
    class_names = class_names_of(config, study)
    inputs = ReportInputs(
        study_name=config.study.name,
        records=records,
        front=front,
        class_names=class_names,
        config_yaml=dump_config(config),
        calibration=_calibration(config),
        latency_report=_latency_report(config),
        device=config.device.name,
        latency_budget_ms=config.device.latency_budget_ms,
        rungs=rungs_of(config.search),
        data_name=config.data.kind,
        target_fronts=[_target_front(config, study, name) for name in config.target_names[1:]],
        startup_trials=config.search.startup_trials,
        winner=winner_kernels(config, front, class_names),
        environment=environment_of(study),
        refits=stored_refits(paths),
    )
    return write_report(page or paths.report, inputs)


def _target_front(config: StudyConfig, study: optuna.Study, target: str) -> TargetFront:
    view = target_view(config, study, target, predict=False)
    budget_ms = view.budget_ms if math.isfinite(view.budget_ms) else None
    return TargetFront(target, view.records, pareto_front(view.records, objectives=view.objectives), budget_ms)


def class_names_of(config: StudyConfig, study: optuna.Study) -> tuple[str, ...]:
    """Return the classes in the order of the trials' scores; the data's own for a study that stored none."""
    stored = study.user_attrs.get(CLASS_NAMES)
    if stored:
        return tuple(stored)
    from trial_runner.training.trial import open_split

    return open_split(config.data, "val", config.study.seed).info.class_names


def _calibration(config: StudyConfig) -> dict[str, object] | None:
    """Return the cross-validation results of the study's latency model; None where there is no model (any more)."""
    try:
        model = load_latency_model(config)
    except UserError:
        return None
    if isinstance(model, CustomLatencyModel) or not model.calibrated:
        return {"summary": model.provenance}
    return {**asdict(model.quality), "model_path": str(config.device.latency_model)}


def _latency_report(config: StudyConfig) -> Path | None:
    """Return the latency report beside the model, or None."""
    page = config.device.latency_model.with_name(REPORT_FILE)
    return page if config.device.predictor is None and page.is_file() else None
