"""Precision as a dimension: each candidate is predicted, trained, scored, exported and measured in its own."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest

from hw_latency_model.bundled.load import load_bundled
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.kernels.runtimes import runtime_of
from hw_latency_model.store.measurement_store import MeasurementStore
from objectives.trial_record import read_study, store_later_facts
from search_spaces import get_space, open_space
from search_spaces._common.errors import UserError
from trial_runner.cli.calibrate import calibrate_here
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.constraints.latency_models import load_latency_models
from trial_runner.front.export_job import export_trial
from trial_runner.front.exporter import export_order
from trial_runner.front.measurement import measure_front
from trial_runner.front.table import front_rows, write_csv
from trial_runner.launch import launch
from trial_runner.search.initial_design import stratified_by_latency
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths

STUDY = """
study: {name: tiny, storage: "sqlite:///study.db", output_dir: out, seed: 3}
data: {kind: synthetic, train_images: 12, val_images: 6, image_height_px: 32, image_width_px: 64}
space:
  families: [resnet10t, lcnet]
  widths: [0.25, 0.5]
  decoders: [lraspp]
  resolutions_px: [[32, 64], [64, 64]]
  prune_ratios: [0.0]
  precisions: [fp32, int8]
device: {name: local-cpu, latency_model: runs/local-cpu/latency_model.json, latency_budget_ms: 1000, measure_front: false}
training: {epochs: 2, batch_size: 4, quantization: {calibration_images: 6}}
search: {trials: 2, startup_trials: 2, start_with_default: true, sampler: random}
compute: {backend: inprocess}
export: {parity_images: 2}
"""


@pytest.mark.slow
def test_a_study_of_two_precisions_takes_each_candidate_through_in_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    config = load_config(path)
    with pytest.raises(UserError, match="calibrate"):
        load_latency_models(config)
    order = {"overrides": [], "device": None, "minutes": 0.05, "seed": 0}
    with pytest.raises(UserError, match="--out names one folder"):
        calibrate_here(argparse.Namespace(study=path, out=tmp_path, if_missing=False, **order), lambda line: None)
    calibrate_here(argparse.Namespace(study=path, out=None, if_missing=True, **order), lambda line: None)
    models = load_latency_models(config)
    assert {precision: model.precision for precision, model in models.items()} == {"fp32": "fp32", "int8": "int8"}

    launch(config, lambda line: None)
    study, paths = open_configured(config), StudyPaths(config.study.output_dir)
    found = [record for record in read_study(study) if record.complete]
    assert {record.precision for record in found} == {"fp32", "int8"}
    space = open_space(config.space)
    for record in found:
        assert record.candidate is not None and record.score is not None
        assert record.score.precision == record.candidate.precision
        assert (record.float_miou is not None) == (record.precision == "int8")
        model = models[config.precision_of(record.candidate)]
        kernels = CandidateKernels(space, 14, runtime=runtime_of(model.fingerprint))
        assert record.latency_ms == pytest.approx(model.predict(kernels(record.candidate)).latency_ms)
        bundle = export_trial(export_order(config, paths, record))
        assert json.loads((bundle / "manifest.json").read_text())["precision"]["name"] == record.precision
        store_later_facts(study, record.number, bundle=str(bundle), export_error=None)
        capsys.readouterr()
        assert main(["predict", str(bundle / "model.onnx"), "--precision", str(record.precision), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["precision"] == record.precision and told["latency_ms"] == pytest.approx(
            record.latency_ms, rel=1e-3
        )

    measure_front(config, study, [record for record in read_study(study) if record.complete], models, lambda line: None)
    measured = [record for record in read_study(study) if record.complete]
    assert all(record.measurement and record.measurement.precision == record.precision for record in measured)
    for precision in ("fp32", "int8"):
        with MeasurementStore(config.device.model_path(precision).with_name("measurements.sqlite")) as store:
            assert {group.precision for group in store.groups("local-cpu")} == {precision}
    rows = front_rows(measured)
    assert [(row["precision"], row["float_miou"]) for row in rows] == [(r.precision, r.float_miou) for r in measured]
    write_csv(measured, tmp_path / "front.csv")
    assert (tmp_path / "front.csv").read_text().splitlines()[0].split(",").count("precision") == 1
    with pytest.raises(UserError, match=r"another space\.precisions"):
        launch(load_config(path, ["space.precisions=[fp32]"]), lambda line: None)


@pytest.mark.slow
def test_on_a_nano_without_measurements_both_precisions_come_from_the_box(tmp_path: Path):
    (tmp_path / "study.yaml").write_text(STUDY)
    changes = ["device.name=jetson-nano", "device.precision=fp16", "space.precisions=[fp16, fp32]"]
    config = load_config(tmp_path / "study.yaml", changes)
    lines: list[str] = []
    launch(config, lines.append)
    assert sum("Not calibrated" in line for line in lines) == 2
    found = [record for record in read_study(open_configured(config)) if record.complete]
    assert {record.precision for record in found} == {"fp16", "fp32"}
    for record in found:
        assert record.score is not None and record.candidate is not None
        assert record.score.precision == record.candidate.precision
        if record.bundle:
            text = (Path(record.bundle) / "README.md").read_text()
            assert ("--fp16" in text) == (record.precision == "fp16")


def test_first_proposals_take_turns_between_precisions():
    space = get_space("encoder_decoder", {"families": ["lcnet", "resnet10t"], "precisions": ["fp16", "fp32"]})
    fp16, fp32 = (load_bundled("jetson-nano", precision) for precision in ("fp16", "fp32"))
    gate = LatencyConstraint(space, 14, fp16, math.inf, others=[fp32])
    drawn = space.sample(np.random.default_rng(0))
    pair = [space.candidate({**drawn.params, "precision": precision}) for precision in ("fp16", "fp32")]
    assert gate.estimate(pair[0]).latency_ms < gate.estimate(pair[1]).latency_ms
    assert gate.estimate(pair[1]) == fp32.predict(gate.table(pair[1]))
    gate.budget_ms = 1e3
    chosen = [candidate.precision for candidate in stratified_by_latency(space, gate, 6, seed=0)]
    assert min(chosen.count("fp16"), chosen.count("fp32")) >= 2
