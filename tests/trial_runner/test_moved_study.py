"""A study whose folder was moved: its bundles, exports, measurements and report are found where they are now."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from exports import read_bundle
from objectives.trial_record import study_attributes
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.front.report import write_study_report
from trial_runner.launch import launch
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths


@pytest.fixture
def moved(write_study: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML of a launched and measured study, after its folder was moved."""
    study = write_study(trials=2, measure=True)
    assert launch(load_config(study), lambda line: None).front
    target = tmp_path_factory.mktemp("moved") / "here"
    shutil.move(study.parent, target)
    return target / study.name


def front(study: Path, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    capsys.readouterr()
    assert main(["front", str(study), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_bundles_measurements_and_report_move_with_their_study(moved: Path, capsys: pytest.CaptureFixture[str]):
    stored = study_attributes(open_configured(load_config(moved)))
    assert [value["bundle"].split("/")[0] for key, value in stored.items() if key.startswith("trial:")] != []
    assert all(not value["bundle"].startswith("/") for key, value in stored.items() if key.startswith("trial:"))
    members = front(moved, capsys)
    for member in members:
        bundle = read_bundle(Path(member["bundle"]))
        assert bundle.dir.is_relative_to(moved.parent)
        assert [item["latency_ms_p50"] for item in bundle.measurements] == [member["measured_ms"]]
    assert main(["export", str(moved)]) == 0
    for member in front(moved, capsys):
        manifest = read_bundle(Path(member["bundle"])).manifest
        assert [item["latency_ms_p50"] for item in manifest["measurements"]] == [member["measured_ms"]]
        text = (Path(member["bundle"]) / "README.md").read_text()
        (measured,) = re.findall(r"^\| measured latency \(batch 1\) \| (.*) \|$", text, re.MULTILINE)
        assert "not measured" not in measured and "ms median" in measured
    elsewhere = moved.parent / "elsewhere"
    assert main(["export", str(moved), "--out", str(elsewhere)]) == 0
    assert all(read_bundle(folder).measurements for folder in elsewhere.iterdir())
    assert main(["report", str(moved)]) == 0
    page = StudyPaths(load_config(moved).study.output_dir).report
    links = [unquote(link) for link in re.findall(r'href="([^"#]*trial-[^"]*)"', page.read_text())]
    assert len(links) >= len(members) and all((page.parent / link / "model.onnx").is_file() for link in links)


def test_the_report_says_where_a_bundle_is_that_is_not_beside_it(moved: Path, tmp_path: Path):
    config = load_config(moved)
    study, paths = open_configured(config), StudyPaths(config.study.output_dir)
    page = write_study_report(config, study, paths, tmp_path / "report.html").read_text()
    bundles = paths.bundle(0).parent
    assert f"not beside this page: {bundles}" in page
    shutil.rmtree(bundles)
    page = write_study_report(config, study, paths).read_text()
    assert f"not found in</span> {bundles}" in page
