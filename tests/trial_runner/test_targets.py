"""Several targets of a study: read from its YAML, predicted for every trial, and a front of each."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from driving import driver_of, records_of

from exports.bundle.read import read_manifest
from exports.bundle.readme import bundle_readme
from hw_latency_model import LatencyEstimate
from hw_latency_model.bundled import load as bundled
from objectives.trial_record import hide_objects, read_study
from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate
from trial_runner.cli.main import main
from trial_runner.config.editors import study_schema
from trial_runner.config.load import ConfigError, dump_config, load_config
from trial_runner.config.study import StudyConfig
from trial_runner.front.exporter import export_order
from trial_runner.front.table import write_csv
from trial_runner.study.objectives import note_class_names, open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.training.trial_spec import Progress

HEAD = 'study: {name: s, storage: "sqlite:///study.db", output_dir: out}\ndata: {kind: synthetic}\n'
SPACE = "space: {families: [lcnet], decoders: [fpn], widths: [0.25, 0.5], resolutions_px: [[32, 64]]}\n"
TWO = """device:
  - {name: jetson-nano, latency_model: nano/model.json, precision: fp16, latency_budget_ms: 6}
  - {name: jetson-nano-5w, latency_budget_ms: 9}
  - local-cpu
"""


def config_of(tmp_path: Path, device: str, *overrides: str) -> StudyConfig:
    (tmp_path / "study.yaml").write_text(HEAD + SPACE + device)
    return load_config(tmp_path / "study.yaml", overrides)


def test_the_first_target_decides_and_the_others_have_defaults_beside_it(tmp_path: Path):
    config = config_of(tmp_path, TWO)
    assert config.target_names == ("jetson-nano", "jetson-nano-5w", "local-cpu")
    slow, here = (config.for_target(name).device for name in config.target_names[1:])
    assert (slow.precision, slow.latency_budget_ms) == ("fp16", 9.0)
    assert slow.latency_model == tmp_path / "jetson-nano-5w" / "model.json"
    assert (here.precision, here.latency_budget_ms) == ("fp32", float("inf")), "it does not run fp16"
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    jsonschema.validate(yaml.safe_load((tmp_path / "study.yaml").read_text()), study_schema())
    assert config_of(tmp_path, TWO, "device.latency_budget_ms=7").device.latency_budget_ms == 7


def test_names_alone_are_a_study_with_a_budget_of_30_images_a_second(tmp_path: Path):
    device = config_of(tmp_path, "device: [jetson-nano, jetson-orin-nano]").device
    assert (device.name, device.precision, device.latency_budget_ms) == ("jetson-nano", "fp16", 33.3)
    assert device.latency_model == tmp_path / "runs" / "jetson-nano" / "latency_model.json"


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (TWO.replace("local-cpu", "jetson-nano"), "the targets must be different ones, not jetson-nano"),
        (TWO.replace("latency_budget_ms: 9", "budget: 9"), "line 6: targets.0.budget is not a known key"),
        (
            TWO.replace("local-cpu", "jetson-orin-nan"),
            'line 7: targets.1: there is no device profile "jetson-orin-nan"',
        ),
        (TWO.replace("latency_budget_ms: 9", "precision: int8"), "jetson-nano-5w does not run int8"),
        (TWO + "targets: [jetson-tx2]", "write all of them under device"),
        ("device: []", "device is an empty list: name a target"),
    ],
)
def test_a_wrong_list_of_targets_is_refused_with_its_line(tmp_path: Path, device: str, words: str):
    with pytest.raises(ConfigError) as caught:
        config_of(tmp_path, device)
    assert words in str(caught.value)


DRIVEN = """
device: [{latency_model: m.json, latency_budget_ms: 100}, {name: jetson-nano, latency_budget_ms: 1}, jetson-tx2]
search: {trials: 2}
"""


def predicted(candidate: Candidate) -> dict[str, LatencyEstimate]:
    ms = 3.0 * float(candidate.params["width"])
    return {"jetson-nano": LatencyEstimate(ms, 0.5 * ms, 2.0 * ms, 0.8)}


@pytest.fixture
def driven(tmp_path: Path) -> StudyConfig:
    """A study of three targets, driven to its end."""
    config = config_of(tmp_path, DRIVEN)
    hide_objects(open_configured(config, create=True))  # as a launch does
    driver = driver_of(config, latency_on_targets=predicted)
    while (spec := driver.ask()) is not None:
        score = TrialScore(0.5, 20, 20, 1000, 100, 1.0, (0.5, None))
        driver.progress(spec.number, Progress(20, 0.5, ((20, 0.5),), score))
        driver.finish(spec.number)
    note_class_names(open_configured(config), ("road", "sky"))
    return config


def test_every_trial_stores_its_latency_on_every_target(driven: StudyConfig):
    records = records_of(driven)
    assert len(records) >= 2
    for record in records:
        assert record.candidate is not None
        assert record.targets == predicted(record.candidate), "duplicates have it, too"
    shown = open_configured(driven).get_trials()[0].user_attrs
    assert shown["predicted_latency_ms_jetson-nano"] == records[0].targets["jetson-nano"].latency_ms


def test_a_trial_that_is_resumed_gets_the_latency_on_targets_added_since(tmp_path: Path):
    config = config_of(tmp_path, DRIVEN)
    driver = driver_of(config)
    spec = driver.ask()
    assert spec is not None
    driver.progress(spec.number, Progress(1, 0.1, ((1, 0.1),), TrialScore(0.1, 1, 20, 1000, 100, 1.0, (0.1, None))))
    driver.requeue_running()
    assert records_of(config)[0].targets == {}
    again = driver_of(config, latency_on_targets=predicted).ask()
    assert again is not None and again.number == spec.number
    assert records_of(config)[0].targets == predicted(spec.candidate)


def test_stored_latencies_are_columns_and_sections(
    driven: StudyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    study, table = str(tmp_path / "study.yaml"), tmp_path / "trials.csv"
    stored = {str(record.number): record.targets["jetson-nano"].latency_ms for record in records_of(driven)}
    assert main(["trials", study, "--csv", str(table)]) == 0
    with table.open() as handle:
        assert {row["trial"]: float(row["jetson-nano_latency_ms"]) for row in csv.DictReader(handle)} == stored
    assert main(["front", study, "--json"]) == 0
    printed = capsys.readouterr().out
    (row,) = json.loads(printed[printed.index("[") :])
    assert row["targets"]["jetson-nano"]["latency_ms"] == stored[str(row["trial"])]
    write_csv([record for record in records_of(driven) if record.complete], table)
    assert "jetson-nano_latency_ms" in table.read_text().splitlines()[0].split(",")
    assert main(["trial", study, "0", "--no-kernels"]) == 0
    assert "ms on jetson-nano, 90% interval" in capsys.readouterr().out
    assert main(["report", study]) == 0
    page = (driven.study.output_dir / "report.html").read_text()
    assert "The front on jetson-nano" in page and "No trained trial has a latency on this target" in page


def test_a_bundle_names_the_latency_on_every_target(driven: StudyConfig, tmp_path: Path):
    record = next(record for record in records_of(driven) if record.complete)
    facts = export_order(driven, StudyPaths(driven.study.output_dir), record).facts["targets"]
    assert facts["jetson-nano"]["latency_ms"] == record.targets["jetson-nano"].latency_ms
    shutil.unpack_archive(Path(__file__).parents[1] / "golden" / "fixtures" / "bundle.zip", tmp_path / "bundle")
    manifest = read_manifest(tmp_path / "bundle")
    manifest["facts"]["targets"] = facts
    text = bundle_readme(manifest)
    assert (
        f"| predicted latency (jetson-nano, batch 1) | {record.targets['jetson-nano'].latency_ms:.3g} ms, 90 %" in text
    )
    assert "| predicted latency (jetson-tx2, batch 1) | not predicted |" in text


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A study of an earlier release, whose trials know nothing of targets, and arguments that name two; one has no model."""
    nano = [("jetson-nano", "fp16"), ("jetson-nano", "fp32")]
    monkeypatch.setattr(bundled, "bundled_names", lambda: nano)
    stored = Path(__file__).parents[1] / "golden" / "fixtures" / "study"
    place = Path(shutil.copytree(stored, tmp_path / "study"))
    return [str(place / "study.yaml"), "--set", "targets=[{name: jetson-nano, latency_budget_ms: 1000}, jetson-tx2]"]


def test_a_front_of_each_target(study: list[str], capsys: pytest.CaptureFixture[str]):
    def rows(*arguments: str) -> list[dict[str, Any]]:
        assert main([arguments[0], *study, *arguments[1:], "--json"]) == 0
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return found

    assert all("targets" not in row for row in rows("front")), "an older study has the keys that it had"
    nano = rows("front", "--target", "jetson-nano")
    complete = {row["trial"]: row for row in rows("trials") if row["outcome"] == "finished"}
    assert nano and {row["trial"] for row in nano} <= complete.keys()
    assert all(row["latency_ms"] > complete[row["trial"]]["latency_ms"] for row in nano), "a Nano is slower"
    assert all(row["measured_ms"] is None for row in nano), "measured on this machine"

    assert main(["front", *study, "--target", "jetson-tx2"]) == 2
    assert "no latency model of jetson-tx2 in fp32" in (said := capsys.readouterr().err) and "calibrate" in said
    assert main(["front", *study, "--target", "jetson-nona"]) == 2
    assert "did you mean 'jetson-nano'?" in capsys.readouterr().err


def test_the_network_for_a_target_is_named_and_marked(study: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["choose", *study, "--target", "jetson-tx2", "--budget-ms", "20"]) == 2
    assert "no latency model of jetson-tx2" in capsys.readouterr().err
    assert main(["choose", *study, "--target", "jetson-nano", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["target"], found["budget_ms"], found["measured_ms"]) == ("jetson-nano", 1000.0, None)
    config = load_config(study[0])
    (marked,) = [record for record in read_study(open_configured(config)) if record.chosen]
    assert marked.number == found["trial"] and marked.chosen["target"] == "jetson-nano"
    report = (config.study.output_dir / "report.html").read_text()
    assert f"Trial {marked.number} is chosen to deploy for 1000 ms on jetson-nano" in report
