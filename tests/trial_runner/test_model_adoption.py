"""A study whose latency model is refitted: its trials are predicted again, and no front mixes two models."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from launching import TINY
from sample_measurement import sample_measurement

from dashboards import text
from hw_latency_model import KernelSpec, LatencyEstimate, LatencyModel
from hw_latency_model.bundled.load import load_bundled
from hw_latency_model.kernels.table import KernelTable
from objectives import trial_record as tr
from objectives.optuna_private import close_connections
from objectives.trial_record import TrialRecord, read_study
from search_spaces import open_space
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.loaded_models import LoadedModels
from trial_runner.front.adoption import ModelAdoption
from trial_runner.launch import launch
from trial_runner.study.objectives import open_configured, stored_objectives
from trial_runner.study.patience import Patience

FIXTURE = Path(__file__).parents[1] / "golden" / "fixtures" / "study"


@dataclass(frozen=True)
class ByMacs:
    """A latency model that predicts this many ms for 10^6 multiply-accumulates, or for a network of 10^6 with power -1."""

    ms: float
    power: float = 1.0
    precision: str = "fp32"
    calibrated: bool = False
    provenance: str = "given"
    fingerprint: dict[str, str] = field(default_factory=lambda: {"runtime": "onnxruntime"})

    def identity(self) -> str:
        return f"{self.ms} {self.power}"

    def predict(self, kernels: Sequence[KernelSpec] | KernelTable) -> LatencyEstimate:
        parts = kernels.kernels if isinstance(kernels, KernelTable) else kernels
        ms = self.ms * (sum(kernel.macs for kernel in parts) / 1e6) ** self.power
        return LatencyEstimate(ms, 0.9 * ms, 1.1 * ms, coverage=1.0)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    """The study that was run to its end, of an earlier release: nothing is stored on its model."""
    monkeypatch.chdir(shutil.copytree(FIXTURE, tmp_path / "study"))
    return load_config(Path("study.yaml"))


def adopted(config: StudyConfig, ms: float, power: float = 1.0) -> list[str]:
    """Lines that a launch with that model says of the stored trials."""
    lines: list[str] = []
    study = open_configured(config, patience=Patience(5.0, str))
    models = LoadedModels({"fp32": ByMacs(ms, power)}, [], {}, {}, {})  # type: ignore[dict-item]
    classes = len(read_study(study)[0].score.class_iou)  # type: ignore[union-attr]
    objectives = stored_objectives(config, study)
    space = open_space(config.space)
    ModelAdoption(config, study, space, classes, objectives, models, lambda candidate: None, lines.append).rescore()
    close_connections(study)
    return lines


def records_of(config: StudyConfig) -> list[TrialRecord]:
    return read_study(open_configured(config))


def test_every_prediction_of_a_study_is_of_the_new_model_for_all_readers(config: StudyConfig):
    old = {record.number: record for record in records_of(config)}
    (line,) = adopted(config, 0.02)
    study = open_configured(config)  # as every other process sees it
    now = read_study(study)
    ratios = {record.latency_ms / sum_macs(config, record) for record in now}
    assert max(ratios) == pytest.approx(min(ratios)) == pytest.approx(0.02 / 1e6)
    for record, trial in zip(now, study.trials, strict=True):
        assert (record.val_miou, record.outcome, record.curve) == (
            old[record.number].val_miou,
            old[record.number].outcome,
            old[record.number].curve,
        )
        assert trial.system_attrs["constraints"] == [pytest.approx(record.latency_ms - 0.2041)]
        assert trial.values == ([record.val_miou, record.latency_ms] if trial.values else None)
    assert f"the latency model has changed: {len(now)} trials are predicted anew" in line
    changes = sorted(r.latency_ms / old[r.number].latency_ms - 1.0 for r in now)
    assert f"{changes[len(changes) // 2]:+.1%} at the median ({changes[0]:+.1%} to {changes[-1]:+.1%})" in line


def sum_macs(config: StudyConfig, record: TrialRecord) -> float:
    from trial_runner.constraints.latency import LatencyConstraint

    gate = LatencyConstraint(open_space(config.space), 14, ByMacs(1.0), math.inf)
    return gate.estimate(record.candidate).latency_ms * 1e6


def test_a_measurement_stays_compared_with_the_prediction_made_before_it(config: StudyConfig):
    """A later model may have learnt from it, and would judge itself."""
    before = next(record for record in records_of(config) if record.complete and record.measurement is None)
    study = open_configured(config)
    tr.store_later_facts(study, before.number, measurement=sample_measurement(2.0 * before.latency_ms))
    close_connections(study)
    for ms in (0.02, 0.03):
        adopted(config, ms)
        now = records_of(config)
        record = now[before.number]
        assert record.estimate != before.estimate and record.judged_estimate == before.estimate
        assert text.relative_error(record) == pytest.approx(-0.5)
        assert text.inside_interval(record) is (before.estimate.high_ms >= 2.0 * before.latency_ms)
        assert all(other.blind_estimate is None for other in now if other.measurement is None)


def test_the_line_names_the_trials_that_join_and_leave_the_front(config: StudyConfig):
    adopted(config, 0.001)
    largest_fastest = (
        "-64.3% at the median (-99.8% to +749.2%); front within the budgets: 1 members, none joined, 1 (trial 15) left"
    )
    assert largest_fastest in adopted(config, 0.001, power=-1.0)[0]
    assert "front within the budgets: 2 members, 1 (trial 15) joined, none left" in adopted(config, 0.001)[0]


def test_the_same_model_says_and_changes_nothing(config: StudyConfig):
    assert len(adopted(config, 0.02)) == 1
    before = Path("study.db").read_bytes()
    assert adopted(config, 0.02) == [] and Path("study.db").read_bytes() == before


def scaled(factor: float) -> LatencyModel:
    model = load_bundled("jetson-nano", "fp32")
    fit = model.fit_result
    return replace(model, fit_result=replace(fit, offset=fit.offset + math.log(factor)))


@pytest.mark.slow
def test_a_launch_adopts_a_model_that_is_refitted_while_it_runs_and_one_refitted_before_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    text = TINY.format(
        model="model.json", budget_ms=1000, measure="false", epochs=1, trials=2, rungs=[], backend="inprocess"
    )
    Path("study.yaml").write_text(text.replace("local-cpu", "jetson-nano"))
    scaled(1.0).save(Path("model.json"))
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("trial") and sum(item.startswith("trial") for item in lines) == 1:
            scaled(1.5).save(Path("model.json"))
            os.utime("model.json")

    launch(load_config(Path("study.yaml")), say)
    (adopted_line,) = [line for line in lines if "has changed" in line]
    assert "1 trials are predicted anew; predicted latency +50.0% at the median" in adopted_line
    config = load_config(Path("study.yaml"), ["search.trials=3"])
    first = [record.latency_ms for record in records_of(config)]
    scaled(0.75).save(Path("model.json"))
    lines.clear()
    launch(config, lines.append)
    assert sum("predicted latency -50.0% at the median (-50.0% to -50.0%)" in line for line in lines) == 1
    for trial in open_configured(config).trials:  # what dashboards show
        assert trial.user_attrs["predicted_latency_ms"] == pytest.approx(trial.values[1], rel=1e-3)
    now = [record.latency_ms for record in records_of(config)]
    assert now[: len(first)] == pytest.approx([ms / 2 for ms in first]) and len(now) > len(first)


def test_a_model_that_cannot_be_used_is_reported_once_and_the_loaded_one_is_kept(config: StudyConfig):
    Path("model").mkdir()
    nano = load_config(Path("study.yaml"), ["device.name=jetson-nano"])
    path = Path("model/latency_model.json")
    scaled(1.0).save(path)
    lines: list[str] = []
    study = open_configured(nano)
    objectives = stored_objectives(nano, study)
    models = LoadedModels.load(nano, objectives)
    adoption = ModelAdoption(
        nano, study, open_space(nano.space), 14, objectives, models, lambda candidate: None, lines.append
    )
    assert not adoption.reload()
    path.write_text("{}")
    assert not adoption.reload() and not adoption.reload()
    assert adoption.models is models and len(lines) == 1 and "is not used" in lines[0] and "damaged" in lines[0]
    scaled(2.0).save(path)
    assert adoption.reload() and adoption.models is not models
