"""Every example runs, at settings small enough for a test, and shows what its description says."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from exports import read_bundle
from hw_latency_model import KernelSpec
from paretoseg import LatencyModel, SplitPredictions, Study, Table

MODULES = ("plain_space", "bubbles", "boundary", "roofline")
SMALL = (
    *(
        "training.epochs=1",
        "training.batch_size=4",
        "search.trials=2",
        "search.startup_trials=2",
        "export.parity_images=2",
    ),
    *("compute.backend=inprocess", "device.latency_budget_ms=1000"),
)
SCENES = ("data.train_images=8", "data.val_images=4", "data.image_height_px=32", "data.image_width_px=64")
NETWORKS = ("space.families=[lcnet]", "space.resolutions_px=[[32, 64]]", "space.prune_ratios=[0.0]")
ROOFLINE = ("device.latency_model=roofline:predict", "device.measure_front=false")


@pytest.fixture(autouse=True)
def examples(tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the examples, so that ``../../runs`` is a test's own; modules imported from it are forgotten afterwards."""
    folder = tmp_path / "clone" / "examples"
    shutil.copytree(repo_root / "examples", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder / "custom_latency")])
    yield folder
    for name in MODULES:
        sys.modules.pop(name, None)


def launched(folder: Path, *overrides: str) -> tuple[Study, Table]:
    study = Study(folder / "study.yaml", [*SMALL, *overrides])
    return study, study.launch(progress=None)


def module(name: str) -> ModuleType:
    return sys.modules[name]


def test_a_network_of_ones_own_is_calibrated_pruned_exported_measured_and_reported(examples: Path):
    small = [*SMALL, *SCENES, "space.resolutions_px=[[32, 64]]", "space.prune_ratios=[0.5]"]
    study = Study(examples / "custom_network" / "study.yaml", small)
    models = study.calibrate(minutes=0.02, progress=None)
    assert models["fp32"].quality.networks >= 5 and study.config.device.latency_model.is_file()
    front = study.launch(progress=None)
    row = front[0]
    assert row["network"].startswith("channels ") and "blocks" in row["network"] and row["prune_ratio"] == 0.5
    assert row["latency_low_ms"] < row["latency_ms"] < row["latency_high_ms"] and row["measured_ms"] > 0
    bundle = read_bundle(Path(row["bundle"]))
    assert bundle.manifest["parity"] and (bundle.dir / "model.onnx").is_file()
    space = module("plain_space").PlainSpace()
    dense = space.build({"channels": row["channels"], "blocks": row["blocks"], "dilation": row["dilation"]}, 14)
    assert row["parameters"] < 0.5 * sum(parameter.numel() for parameter in dense.parameters())
    assert row["network"] in study.report().read_text()


def test_ten_lines_define_a_space(examples: Path):
    source = (examples / "custom_network" / "plain_space.py").read_text()
    body = source.partition("class PlainSpace(NetworkSpace):\n")[2].splitlines()
    assert 0 < len([line for line in body if line.strip()]) < 10


def test_data_of_ones_own_take_their_options_and_name_the_classes(examples: Path):
    study, front = launched(examples / "custom_data", *NETWORKS, *ROOFLINE, "data.options.images=6")
    assert front and study.optuna_study.user_attrs["class_names"] == ["background", "bubble"]
    (data,) = {item.split: item for item in [module("bubbles").open_bubbles(None, "val", images=6)]}.values()
    assert len(data) == 6 and 0 < float(np.mean(data.label(0))) < 1
    assert (data.label(0) != module("bubbles").open_bubbles(None, "train", images=6).label(0)).any()


def test_a_metric_of_ones_own_is_an_objective(examples: Path):
    study, front = launched(examples / "custom_metric", *SCENES, *NETWORKS, *ROOFLINE)
    assert [item.name for item in study.objectives] == ["boundary:boundary_f1", "latency_ms"]
    assert all(0 <= row["boundary:boundary_f1"] <= 1 for row in front)


def split_of(prediction: np.ndarray, label: np.ndarray) -> SplitPredictions:
    return SplitPredictions(lambda: iter([(prediction, label)]), 1, np.zeros((2, 2), np.int64), 255)


def test_boundary_f1_matches_boundaries_within_its_tolerance(examples: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(examples / "custom_metric")
    from boundary import boundary_f1  # type: ignore[import-not-found]

    label = np.zeros((20, 20), np.uint8)
    label[:, 10:] = 1
    assert boundary_f1(split_of(label, label)) == 1.0
    assert boundary_f1(split_of(np.roll(label, 2, axis=1)[:, 2:], label[:, 2:])) == 1.0  # 2 pixels aside
    aside = np.zeros_like(label)
    aside[:, 15:] = 1
    assert boundary_f1(split_of(aside, label)) == 0.0
    assert np.isnan(boundary_f1(split_of(aside, np.zeros_like(label))))


def test_a_latency_function_of_ones_own_is_what_a_candidate_is_scored_by(examples: Path):
    _, front = launched(examples / "custom_latency", *SCENES, *NETWORKS, "device.measure_front=false")
    row = front[0]
    assert row["latency_low_ms"] == pytest.approx(0.6 * row["latency_ms"])
    predict = module("roofline").predict
    busy, idle = (KernelSpec("conv", "a", macs, 10, 10, 10) for macs in (2 * 10**9, 0))
    assert predict([busy]).latency_ms == pytest.approx(100, rel=0.01) and predict([idle]).latency_ms < 0.01


def test_the_script_calibrates_launches_exports_and_draws(examples: Path, capsys: pytest.CaptureFixture[str]):
    path = examples / "python_launch" / "launch_study.py"
    shorten(path, {"minutes=0.8": "minutes=0.02"})
    front = runpy.run_path(str(path))["main"](
        [*SMALL, *SCENES, "space.families=[lcnet]", "space.resolutions_px=[[32, 64]]"]
    )
    folder = examples.parent / "runs" / "python_launch"
    assert front and (folder / "best" / "model.onnx").is_file() and (folder / "report.html").is_file()
    assert "plotly" in (folder / "front.html").read_text() and "finished    2" in capsys.readouterr().out


def test_every_cell_of_the_notebook_runs(examples: Path, monkeypatch: pytest.MonkeyPatch):
    path = examples / "notebook" / "search.ipynb"
    monkeypatch.chdir(path.parent)
    changes = {
        "minutes=0.8": "minutes=0.02",
        '"train_images": 120, "val_images": 30': '"train_images": 8, "val_images": 4',
        '"epochs": 6': '"epochs": 1',
        '"trials": 6, "startup_trials": 4': '"trials": 2, "startup_trials": 2',
        "study = Study(settings)": 'study = Study({**settings, "compute": {"backend": "inprocess"}})',
    }
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    for old, new in changes.items():
        assert sum(old in cell for cell in cells) == 1, old
        cells = [cell.replace(old, new) for cell in cells]
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in cells:
        exec(compile(cell, path.name, "exec"), names)
    assert isinstance(names["model"], LatencyModel) and len(names["trials"]) >= 2
    assert names["front"]._repr_html_().startswith("<table>") and (names["bundle"] / "model.onnx").is_file()


def test_the_notebook_is_committed_without_outputs(examples: Path):
    for cell in json.loads((examples / "notebook" / "search.ipynb").read_text())["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_every_example_is_listed(examples: Path):
    listed = (examples / "README.md").read_text()
    folders = [path.name for path in examples.iterdir() if path.is_dir()]
    assert len(folders) == 6 and all(f"[{name}]({name}/" in listed for name in folders)


def shorten(path: Path, changes: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
