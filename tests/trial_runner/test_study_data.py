"""A study trains on what its user labelled, and on the same data in each launch."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exports import read_network
from search_spaces._common.errors import UserError
from trial_runner.cli.main import main
from trial_runner.config.load import ConfigError, load_config
from trial_runner.evaluate import evaluate
from trial_runner.launch import launch
from trial_runner.study import objectives
from trial_runner.study.objectives import open_configured
from trial_runner.study.storage import StorageError, open_study
from trial_runner.study_data import DATA_FINGERPRINT

STUDY = """
study: {{name: own, storage: "sqlite:///study.db", output_dir: out}}
data: {{kind: folder, root: data}}
space: {{families: [resnet10t], decoders: [fpn], widths: [0.25], resolutions_px: [[{side}, 64]], prune_ratios: [0.0]}}
device: {{name: local-cpu, latency_model: "{module}:predict", latency_budget_ms: 50, measure_front: false}}
training: {{epochs: 1, batch_size: 4}}
search: {{trials: 1, startup_trials: 1}}
compute: {{backend: inprocess}}
export: {{parity_images: 1}}
"""


def write_pair(root: Path, split: str, name: str, seed: int) -> None:
    label = np.zeros((32, 64), np.uint8)
    label[4 + seed : 20 + seed, 8:40] = 1
    for what, array in (("images", np.stack([label * 200 + seed] * 3, axis=2)), ("labels", label)):
        (root / what / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / what / split / f"{name}.png")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study on a folder of four training and two validation images."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = f"fast_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{module}.py").write_text("def predict(kernels):\n    return 1.0\n")
    (tmp_path / "study.yaml").write_text(STUDY.format(module=module, side=64))
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            write_pair(tmp_path / "data", split, str(number), number)
    (tmp_path / "data/classes.txt").write_text("ground\nhouse\n")
    return tmp_path / "study.yaml"


def run(study: Path, *changes: str) -> list[str]:
    """Launch, and return the lines of the log."""
    lines: list[str] = []
    launch(load_config(study, changes), lines.append)
    return lines


def refusal(study: Path, *changes: str) -> str:
    with pytest.raises(UserError) as caught:
        run(study, *changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def redraw(path: Path) -> None:
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def change_all(data: Path) -> None:
    write_pair(data, "train", "new", 5)
    write_pair(data, "train", "1", 6)
    for what in ("images", "labels"):
        (data / what / "val/0.png").unlink()


def add_class(data: Path) -> None:
    (data / "classes.txt").write_text("ground\nhouse\nroad\n")


@pytest.mark.parametrize(
    ("change", "phrases"),
    [
        (add_class, ["class road was added"]),
        (
            change_all,
            [
                "1 image added to train (new)",
                "1 image changed in train (1)",
                "1 label changed in train (1)",
                "1 image removed from val (0)",
            ],
        ),
        (lambda data: redraw(data / "images/val/1.png"), ["1 image changed in val (1)"]),
    ],
)
def test_changed_data_end_launch_export_refit_and_doctor_in_one_sentence(
    change: Callable[[Path], None], phrases: list[str], study: Path, capsys: pytest.CaptureFixture[str]
):
    run(study)
    change(study.parent / "data")
    for command in (["launch"], ["export"], ["refit", "--trial", "0", "--seeds", "1"]):
        assert main([command[0], str(study), *command[1:]]) == 2
        error = capsys.readouterr().err
        assert "have changed since its trials were trained" in error
        assert all(phrase in error for phrase in phrases), error
    main(["doctor", str(study)])
    finding = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL  data:"))
    assert all(phrase in finding for phrase in phrases)
    assert main(["report", str(study)]) == 0
    records = open_configured(load_config(study)).get_trials()
    assert len(records) == 1


def test_changed_data_are_not_let_in_by_a_database_that_is_away_for_a_moment(
    study: Path, monkeypatch: pytest.MonkeyPatch
):
    run(study)
    change_all(study.parent / "data")
    answers = [StorageError("cannot use the study's database: connection refused.")]

    def open_now(*arguments: Any, **options: Any) -> Any:
        if answers:
            raise answers.pop()
        return open_study(*arguments, **options)

    monkeypatch.setattr(objectives, "open_study", open_now)
    assert "connection refused" in refusal(study, "search.trials=2")
    assert "have changed since its trials were trained" in refusal(study, "search.trials=2") and not answers


def test_a_copy_of_the_data_in_another_folder_is_the_same(study: Path):
    run(study)
    shutil.copytree(study.parent / "data", study.parent / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(study.parent / "data")
    lines = run(study, "data.root=copy", "search.trials=2")
    assert any("2 trials are done" in line or line.startswith("trial   1") for line in lines)


def test_a_study_without_a_fingerprint_goes_on_and_gets_one(study: Path):
    run(study)
    database = open_configured(load_config(study))
    stored = database.user_attrs[DATA_FINGERPRINT]
    assert stored.startswith("train: 4 images ") and ", val: 2 images " in stored
    database.set_user_attr(DATA_FINGERPRINT, None)
    (study.parent / "out/data.json").unlink()
    redraw(study.parent / "data/images/val/1.png")
    run(study)
    assert open_configured(load_config(study)).user_attrs[DATA_FINGERPRINT] not in (None, stored)


def test_without_the_listing_the_split_is_named(study: Path):
    run(study)
    listing = study.parent / "out/data.json"
    for content in ("{", json.dumps({"fingerprint": "of another study", "splits": {}})):
        listing.write_text(content)
        redraw(study.parent / "data/images/val/1.png")
        assert "split val holds other data (2 images, 2 before)" in refusal(study)
        redraw(study.parent / "data/images/val/1.png")


def test_a_class_that_no_label_holds_is_refused_or_allowed(study: Path):
    add_class(study.parent / "data")
    assert "no label of split train holds a pixel of the class road (id 2)" in refusal(study)
    assert not (study.parent / "study.db").exists()
    lines = run(study, "data.missing_classes=allow")
    assert any(line.startswith("data: no label of split train holds a pixel of the class road") for line in lines)
    run(study, "data.missing_classes=allow", "search.trials=2")


def test_keys_of_folders_reach_the_data_and_may_not_change(study: Path):
    for path in (study.parent / "data/labels").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) * 255).save(path)
    assert "data.label_values to {ground: 0, house: 255}" in refusal(study)
    given = "data.label_values={ground: 0, house: 255}"
    run(study, given)
    assert "was started with another data.label_values" in refusal(study, "data.label_values={ground: 255, house: 0}")
    assert "was started with another data.label_values" in refusal(study)
    assert "was started with another data.first_id" in refusal(study, given, "data.first_id=1")
    run(study, given, "search.trials=2")
    assert main(["refit", str(study), "--trial", "0", "--seeds", "1", "--set", given]) == 0
    (network,) = (study.parent / "out/refits").rglob("network.pt")
    assert read_network(network).data_options == {"label_values": {"ground": 0, "house": 255}}
    score = evaluate(network, root=study.parent / "data", device="cpu")
    assert set(score.class_iou) == {"ground", "house"} and score.class_iou["house"] is not None


def test_data_that_change_while_a_study_runs_end_it_before_the_next_trial(study: Path):
    changed = study.parent / "data/labels/train/2.png"

    def touch_then_redraw(line: str) -> None:
        if line.startswith("trial   0"):
            changed.touch()
        if line.startswith("trial   1"):
            Image.fromarray(1 - np.asarray(Image.open(changed))).save(changed)

    with pytest.raises(UserError, match=r"have changed while it ran: 1 label changed in train \(2\)"):
        launch(load_config(study, ["search.trials=3"]), touch_then_redraw)
    trials = open_configured(load_config(study)).get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("data={kind: synthetic, first_id: 1}", "data.first_id is for the kind folder"),
        ("data.colours={ground: [0, 0, 256]}", "colours"),
        ("data.colours={ground: red}", "colours"),
        ("data.ignore_ids=[-1]", "ignore_ids"),
        ("data.image_max=0", "image_max"),
        ("data.missing_classes=warn", "missing_classes"),
    ],
)
def test_wrong_keys_are_named(change: str, sentence: str, study: Path):
    with pytest.raises(ConfigError, match=sentence):
        load_config(study, [change])


def test_one_image_on_a_map_of_one_value_is_a_failed_trial_with_the_reason(study: Path):
    for what in ("images", "labels"):
        for number in (1, 2, 3):
            (study.parent / "data" / what / f"train/{number}.png").unlink()
    changes = ("space.resolutions_px=[[32, 32]]", "search.trials=1")
    lines = run(study, *changes)
    (failed,) = (line for line in lines if line.startswith("trial   0 failed"))
    assert "batch normalisation needs two values per channel" in failed
    records: list[Any] = open_configured(load_config(study, changes)).get_trials()
    assert [record.state.name for record in records] == ["FAIL"]
    write_pair(study.parent / "data", "train", "1", 1)  # nothing was trained: the data may still be put right
    run(study, "space.resolutions_px=[[32, 32]]", "search.trials=2")
