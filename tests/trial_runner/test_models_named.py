"""Commands name the latency model or store that they chose, prefer the study's, and say where there is nothing to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import launching
import pytest

from exports import read_bundle
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.launch import launch
from trial_runner.refit import Refit


@pytest.fixture
def measured(write_study: Callable[..., Path]) -> Path:
    study = write_study(trials=2, measure=True)
    assert launch(load_config(study), lambda line: None).front
    return study


def test_predict_and_measurements_use_the_study_s_model_and_store_and_name_them(
    measured: Path, latency_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.chdir(tmp_path)  # there is no folder runs here
    record = next(item for item in launching.records(measured) if item.bundle)
    onnx = str(Path(record.bundle) / "model.onnx")
    capsys.readouterr()
    assert main(["predict", onnx]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"latency model: {latency_model_path}" and re.match(r"[0-9.]+ ms, ", lines[1])
    assert main(["predict", onnx, "--json"]) == 0
    done = capsys.readouterr()
    assert done.err.splitlines() == [lines[0]] and json.loads(done.out)["device"] == "local-cpu"
    elsewhere = tmp_path / "copied.onnx"
    elsewhere.write_bytes(Path(onnx).read_bytes())
    assert main(["predict", str(elsewhere)]) == 2, "neither a study nor runs/local-cpu"
    assert "runs/local-cpu" in capsys.readouterr().err
    assert main(["predict", str(elsewhere), "--study", str(measured)]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert main(["predict", onnx, "--device", "jetson-nano", "--precision", "fp16"]) == 0
    assert capsys.readouterr().out.startswith("latency model: bundled with paretoseg (jetson-nano fp16)")
    assert main(["predict", onnx, "--model", str(latency_model_path)]) == 0
    assert capsys.readouterr().out.splitlines() == lines[1:]

    store = latency_model_path.with_name("measurements.sqlite")
    assert main(["measurements", "list", "--study", str(measured)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"measurement store: {store}"
    assert main(["measurements", "list", "--study", str(measured), "--json"]) == 0
    done = capsys.readouterr()
    assert done.err == f"measurement store: {store}\n" and json.loads(done.out)
    assert main(["measurements", "list"]) == 2
    assert "runs/local-cpu/measurements.sqlite" in capsys.readouterr().err


def test_measure_says_that_there_is_nothing_to_do_and_repeats_a_named_trial(
    measured: Path, capsys: pytest.CaptureFixture[str]
):
    record = next(item for item in launching.records(measured) if item.measured_ms)
    assert main(["measure", str(measured)]) == 0
    assert "nothing is left to measure" in capsys.readouterr().out
    assert main(["measure", str(measured), "--trial", str(record.number)]) == 0
    assert f"trial {record.number}: measured " in capsys.readouterr().out
    again = next(item for item in launching.records(measured) if item.number == record.number)
    assert again.measurement.started_at > record.measurement.started_at
    times = [item["started_at"] for item in read_bundle(Path(record.bundle)).measurements]
    assert times == [record.measurement.started_at, again.measurement.started_at]


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert re.fullmatch(r"paretoseg \d+\.\d+\S*\n", capsys.readouterr().out)


def test_one_seed_has_no_spread():
    one, two = (Refit(3, 10, mious, 0.4, ()) for mious in ((0.41,), (0.41, 0.43)))
    assert one.summary == "trial 3, one seed of 10 epochs: mIoU 0.410; in the search 0.400"
    assert one.to_dict()["sd"] is None
    assert "2 seeds of 10 epochs: mIoU 0.420 ± 0.014" in two.summary
