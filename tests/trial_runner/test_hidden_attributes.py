"""Attributes of a study in its database: short values for people, objects out of a dashboard's sight; older studies stay readable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from driving import driver_of, records_of
from sample_measurement import sample_measurement

from objectives.trial_record import TrialRecord, hides_objects, store_later_facts, study_attributes
from objectives.trial_score import TrialScore
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.search.driver import StudyDriver
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.study.storage import store_config
from trial_runner.training.trial_spec import Progress

TEXT = """
study: {name: s, storage: "sqlite:///study.db", output_dir: out}
data: {kind: synthetic}
space: {families: [lcnet], decoders: [fpn], widths: [0.25, 0.5, 0.75, 1.0], resolutions_px: [[32, 64]], prune_ratios: [0.0]}
device: {latency_model: model.json, latency_budget_ms: 6}
training: {epochs: 4}
search: {trials: 6, startup_trials: 6, early_stopping: {rungs_epochs: [2], min_trials: 2}}
"""


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    (tmp_path / "study.yaml").write_text(TEXT)
    return load_config(tmp_path / "study.yaml")


def begin(config: StudyConfig) -> optuna.Study:
    """Create the study and store its configuration, as a launch does."""
    study = open_configured(config, create=True)
    store_config(config, study, StudyPaths(config.study.output_dir))
    return study


def train(driver: StudyDriver, most: int = 99) -> None:
    for miou in [0.5, 0.3, 0.6, 0.2, 0.4, 0.7][:most]:
        spec = driver.ask()
        if spec is None:
            return
        for epoch in range(1, 5):
            score = TrialScore(miou, epoch, 4, 68_400_000, 1234567, 1.0, (miou, None) * 10)
            if driver.progress(
                spec.number, Progress(epoch, miou, tuple((e, miou) for e in range(1, epoch + 1)), score)
            ):
                break
        driver.finish(spec.number)


def texts(attrs: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in attrs.items() if not key.startswith(("class_names", "driver"))}


def test_what_a_dashboard_shows_of_a_trial_is_short(config: StudyConfig) -> None:
    study = begin(config)
    train(driver_of(config))
    finished = [record for record in records_of(config) if record.outcome == "finished"]
    store_later_facts(study, finished[0].number, measurement=sample_measurement(4.5), bundle="out/bundles/trial-00000")
    for trial in study.get_trials():
        assert all(isinstance(value, str | int | float) for value in trial.user_attrs.values()), trial.user_attrs
        assert max(map(len, texts(trial.user_attrs).values())) <= 120
    shown = study.get_trials()[finished[0].number].user_attrs
    assert shown["network"].startswith("lcnet ×")
    assert (shown["miou"], shown["epochs"], shown["macs"], shown["parameters"]) == (0.5, 4, 68_400_000, 1234567)
    ms = finished[0].latency_ms
    assert ms is not None and shown["predicted_latency_ms"] == pytest.approx(ms, rel=1e-3)
    assert shown["predicted_latency_interval_ms"] == f"{0.9 * ms:g} to {1.1 * ms:g}"
    assert texts(study.user_attrs) == {}


def test_the_records_of_such_a_study_are_whole(config: StudyConfig) -> None:
    study = begin(config)
    train(driver_of(config), most=2)
    measured = sample_measurement(4.5)
    number = next(record.number for record in records_of(config) if record.complete)
    store_later_facts(study, number, export_error="parity failed")
    store_later_facts(study, number, measurement=measured)
    record = next(record for record in records_of(config) if record.number == number)
    assert record.candidate is not None and record.estimate is not None and record.score is not None
    assert record.rung_scores[0][0] == 2
    assert record.measurement == replace(measured, kernels=())
    assert record.export_error == "parity failed"
    assert study_attributes(study)["config"]["search"]["trials"] == 6
    assert hides_objects(study)


def test_a_study_of_an_earlier_release_goes_on_as_it_began(config: StudyConfig) -> None:
    """Programs of the earlier release can read all of its trials."""
    study = open_configured(config, create=True)
    study.set_user_attr("config", config.model_dump(mode="json", exclude={"study": {"storage"}}))
    train(driver_of(config), most=2)
    store_config(config, study, StudyPaths(config.study.output_dir))
    train(driver_of(config), most=2)
    store_later_facts(study, 0, bundle="out/bundles/trial-00000")
    assert not hides_objects(study)
    for trial in study.get_trials():
        assert {"candidate", "latency"} <= trial.user_attrs.keys()
        assert not {"network", "miou"} & trial.user_attrs.keys()
    assert study.user_attrs["trial:0"] == {"bundle": "out/bundles/trial-00000"}


def test_a_stopped_launch_is_resumed_from_hidden_attributes(config: StudyConfig) -> None:
    begin(config)
    first = driver_of(config)
    spec = first.ask()
    assert spec is not None
    score = TrialScore(0.5, 2, 4, 1000, 100, 1.0, (0.5,))
    first.progress(spec.number, Progress(2, 0.5, ((1, 0.4), (2, 0.5)), score))
    first.requeue_running()
    second = driver_of(config)
    again = second.ask()
    assert again is not None and (again.number, again.candidate) == (spec.number, spec.candidate)
    found: list[TrialRecord] = records_of(config)
    assert found[spec.number].rung_scores == ((2, score),)
