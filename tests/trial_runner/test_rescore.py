"""`paretoseg rescore`: the front of a finished study on another device, without training."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from hw_latency_model.bundled.load import FOLDER, load_bundled
from objectives.trial_record import read_study
from search_spaces import open_space
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.study.objectives import open_configured

FIXTURE = Path(__file__).parents[1] / "golden" / "fixtures" / "study"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of this machine that was run to its end; commands run in its folder."""
    monkeypatch.chdir(shutil.copytree(FIXTURE, tmp_path / "study"))
    return Path("study.yaml")


def rescored(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["rescore", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_front_has_the_other_devices_latency_and_the_accuracies_that_were_trained(
    study: Path, capsys: pytest.CaptureFixture[str]
):
    status, out, notes = rescored(capsys, study, "--device", "jetson-nano", "--precision", "fp16", "--json")
    rows = json.loads(out)
    assert status == 0 and rows
    assert "bundled with paretoseg (jetson-nano fp16)" in notes and "accuracies are those in fp32" in notes
    config = load_config(study)
    records = {record.number: record for record in read_study(open_configured(config)) if record.complete}
    gate = LatencyConstraint(
        open_space(config.space),
        len(records[rows[0]["trial"]].score.class_iou),
        load_bundled("jetson-nano", "fp16"),
        1e9,
    )
    predicted = {number: gate.estimate(record.candidate).latency_ms for number, record in records.items()}
    for row in rows:
        record = records[row["trial"]]
        assert row["val_miou"] == record.val_miou and row["measured_ms"] is None
        assert row["latency_ms"] == pytest.approx(predicted[row["trial"]]) != pytest.approx(record.latency_ms)
    best = max(record.val_miou for record in records.values())
    assert best in [row["val_miou"] for row in rows]
    for number, record in records.items():  # nothing left out is better in both
        assert any(
            row["val_miou"] >= record.val_miou and row["latency_ms"] <= predicted[number] * (1 + 1e-9) for row in rows
        )


def test_a_budget_and_a_csv_file_are_for_the_other_device(
    study: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    options = (study, "--device", "jetson-nano", "--json")
    rows = json.loads(rescored(capsys, *options)[1])
    fastest = min(row["latency_ms"] for row in rows)
    file = tmp_path / "nano.csv"
    kept = json.loads(rescored(capsys, *options, "--budget-ms", fastest * 1.0001, "--csv", file)[1])
    assert [row["latency_ms"] for row in kept] == [fastest]
    with file.open() as lines:
        assert [float(row["latency_ms"]) for row in csv.DictReader(lines)] == [fastest]
    status, _, error = rescored(capsys, *options, "--budget-ms", 0)
    assert status == 2 and "--budget-ms" in error


def test_the_study_itself_is_unchanged_and_a_model_file_is_used(study: Path, capsys: pytest.CaptureFixture[str]):
    before = [read_study(open_configured(load_config(study)))]
    model = FOLDER / "jetson-nano-fp32.json"
    status, out, _ = rescored(capsys, study, "--device", "jetson-nano", "--model", model)
    assert status == 0 and str(model) in out.replace("\n", "") and "Pareto front\n" in out
    assert [read_study(open_configured(load_config(study)))] == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "jetson-nano", "--precision", "int8"), "does not run int8"),
        (("--device", "somewhere"), "no latency model of somewhere"),
        (("--device", "jetson-nano", "--model", "none.json"), "no latency model at none.json"),
    ],
)
def test_a_device_that_cannot_be_predicted_is_one_sentence(
    options: tuple[str, ...], words: str, study: Path, capsys: pytest.CaptureFixture[str]
):
    status, _, error = rescored(capsys, study, *options)
    assert status == 2 and words in error and "Traceback" not in error
