"""Results of `paretoseg refit` in the study's folder, for its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dashboards.study_report.inputs import RefitSpread
from search_spaces._common.files import write_json
from trial_runner.study.paths import StudyPaths


def refit_folder(paths: StudyPaths, number: int) -> Path:
    """Return the folder of a trial's repeated trainings."""
    return paths.root / "refits" / f"trial-{number:05d}"


def store_refit(paths: StudyPaths, number: int, epochs: int, miou_by_seed: Mapping[int, float]) -> None:
    """Store the mIoU of a trial's repeated trainings of as many epochs, beside those of earlier calls.

    Raises:
        UserError: the file cannot be written.
    """
    known = next(
        (item.miou_by_seed for item in stored_refits(paths) if (item.trial, item.epochs) == (number, epochs)), {}
    )
    seeds = {str(seed): value for seed, value in sorted({**known, **miou_by_seed}.items())}
    values = {"trial": number, "epochs": epochs, "val_miou_by_seed": seeds}
    write_json(refit_folder(paths, number) / f"{epochs}-epochs.json", values)


def stored_refits(paths: StudyPaths) -> list[RefitSpread]:
    """Return the repeated trainings of all trials, by trial and epochs; damaged files are left out."""
    found = []
    for file in sorted((paths.root / "refits").glob("trial-*/*-epochs.json")):
        try:
            values = json.loads(file.read_text())
            mious = {int(seed): float(value) for seed, value in values["val_miou_by_seed"].items()}
            found.append(RefitSpread(int(values["trial"]), int(values["epochs"]), mious))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return sorted(found, key=lambda item: (item.trial, item.epochs))
