"""A bundle whose network leaves the front is marked, kept, and not made again when it is a member once more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from exports import read_bundle
from objectives.pareto import pareto_front
from objectives.trial_record import TrialRecord, read_study, store_later_facts
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.front import exporter as module
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths

FIXTURES = Path(__file__).parents[1] / "golden" / "fixtures"


def test_a_bundle_that_left_the_front_is_marked_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = Path(shutil.copytree(FIXTURES / "study", tmp_path / "study")) / "study.yaml"
    config = load_config(path)
    study, paths = open_configured(config), StudyPaths(config.study.output_dir)
    front = pareto_front(read_study(study, paths.root))
    number = next(r.number for r in read_study(study, paths.root) if r.complete and r not in front)
    bundle = paths.bundle(number)
    shutil.unpack_archive(FIXTURES / "bundle.zip", bundle)
    store_later_facts(study, number, bundle=paths.relative(bundle), superseded=False)  # exported while it was a member

    exporter, ordered = module.FrontExporter(config, study, paths, inline=True), list[int]()
    monkeypatch.setattr(exporter, "_order", lambda record: ordered.append(record.number))

    def record() -> TrialRecord:
        return read_study(study, paths.root)[number]

    exporter.consider()
    assert record().superseded is True
    mark = read_bundle(bundle).manifest["superseded"]
    assert mark["by_trials"] and set(mark["by_trials"]) <= set(front.numbers)
    assert "**Superseded** since" in (bundle / "README.md").read_text()
    assert main(["front", str(path)]) == 0
    assert f"superseded bundles, of networks that left the front: trial {number}" in capsys.readouterr().out
    assert main(["verify", str(bundle)]) == 0
    assert "superseded since" in capsys.readouterr().out
    assert main(["report", str(path)]) == 0
    assert "Superseded, because they left the front" in (paths.root / "report.html").read_text()

    def without_better(records: list[TrialRecord], **options: Any) -> Any:
        return pareto_front([item for item in records if item.number not in mark["by_trials"]], **options)

    monkeypatch.setattr(module, "pareto_front", without_better)
    exporter.consider()
    assert record().superseded is False and read_bundle(bundle).manifest["superseded"] is None
    assert number not in ordered, "it is not exported again"


def test_a_bundle_exported_by_hand_was_never_a_member(tmp_path: Path):
    path = Path(shutil.copytree(FIXTURES / "study", tmp_path / "study")) / "study.yaml"
    config = load_config(path)
    study, paths = open_configured(config), StudyPaths(config.study.output_dir)
    front = pareto_front(read_study(study, paths.root))
    by_hand = next(r for r in read_study(study, paths.root) if r.complete and r not in front)
    bundle = paths.bundle(by_hand.number)
    shutil.unpack_archive(FIXTURES / "bundle.zip", bundle)
    store_later_facts(study, by_hand.number, bundle=paths.relative(bundle))
    exporter = module.FrontExporter(config, study, paths)
    exporter._note_membership(read_study(study, paths.root)[by_hand.number], front)
    assert read_study(study, paths.root)[by_hand.number].superseded is None
    assert "superseded" not in json.loads((bundle / "manifest.json").read_text())
