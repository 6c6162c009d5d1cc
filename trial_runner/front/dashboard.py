"""Content of optuna-dashboard for a study: figures, notes and bundles; nothing here loads torch."""

from __future__ import annotations

from pathlib import Path

import optuna

from dashboards import update_study_page, upload_bundle
from dashboards.web import open_artifact_store
from objectives.pareto import pareto_front
from objectives.trial_record import read_study
from trial_runner.config.study import StudyConfig
from trial_runner.search.early_stopping import rungs_of
from trial_runner.study.objectives import open_configured, stored_objectives
from trial_runner.study.paths import StudyPaths


def fill_dashboard(config: StudyConfig) -> tuple[optuna.Study, StudyPaths]:
    """Upload figures, notes and bundles for optuna-dashboard; return the study and its folders."""
    paths = StudyPaths(config.study.output_dir)
    study = open_configured(config)
    records = read_study(study, config.study.output_dir)
    budget = config.device.latency_budget_ms
    update_study_page(
        study,
        records,
        pareto_front(records, objectives=stored_objectives(config, study)),
        latency_budget_ms=budget,
        device=config.device.name,
        rungs=rungs_of(config.search),
    )
    store = open_artifact_store(paths.artifacts)
    for record in records:
        if record.bundle and Path(record.bundle).is_dir():
            upload_bundle(study, record, Path(record.bundle), store)
    return study, paths
