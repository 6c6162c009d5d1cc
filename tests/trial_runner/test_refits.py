"""Repeated trainings that are kept for the report."""

from __future__ import annotations

from pathlib import Path

from dashboards.study_report.inputs import RefitSpread
from trial_runner.study.paths import StudyPaths
from trial_runner.study.refits import refit_folder, store_refit, stored_refits


def test_each_call_adds_its_seeds_and_damaged_files_are_left_out(tmp_path: Path):
    paths = StudyPaths(tmp_path)
    assert stored_refits(paths) == []
    store_refit(paths, 12, 8, {2: 0.5})
    store_refit(paths, 12, 8, {1: 0.4})
    store_refit(paths, 12, 20, {1: 0.6})
    store_refit(paths, 3, 8, {1: 0.3})
    expected = [RefitSpread(3, 8, {1: 0.3}), RefitSpread(12, 8, {1: 0.4, 2: 0.5}), RefitSpread(12, 20, {1: 0.6})]
    assert stored_refits(paths) == expected
    for number, text in enumerate(("[", "[]", '{"trial": 1, "epochs": 2, "val_miou_by_seed": {"x": 1}}')):
        (refit_folder(paths, 3) / f"{number}-epochs.json").write_text(text)
    assert stored_refits(paths) == expected
    assert RefitSpread(1, 1, {1: 0.5}).sd is None and expected[1].mean == 0.45
