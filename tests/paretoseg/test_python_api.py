"""`import paretoseg`: what it costs, and a study launched, read and exported from Python."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import paretoseg
from paretoseg import Study, Table, UserError

MODULE = """
def predict(kernels):
    return 0.1 + sum(kernel.macs for kernel in kernels) / 1e6
"""

VALUES: dict[str, Any] = {
    "study": {"name": "python", "storage": "sqlite:///study.db", "output_dir": "out"},
    "data": {"kind": "synthetic", "train_images": 8, "val_images": 4, "image_height_px": 32, "image_width_px": 64},
    "space": {"families": ["lcnet"], "widths": [0.25, 0.5], "resolutions_px": [[32, 64]], "prune_ratios": [0.0]},
    "device": {"latency_model": "python_api_latency:predict", "latency_budget_ms": 1000, "measure_front": False},
    "training": {"epochs": 1, "batch_size": 4},
    "search": {"trials": 2, "startup_trials": 2},
    "compute": {"backend": "inprocess"},
    "export": {"parity_images": 2},
}


def test_the_import_is_light_and_every_name_is_there():
    code = "import sys, paretoseg; print([m for m in ('torch', 'ray', 'optuna', 'numpy', 'pydantic', 'yaml') if m in sys.modules])"
    code += "\nprint(all(getattr(paretoseg, name) is not None for name in paretoseg.__all__), hasattr(paretoseg, 'nothing'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["[]", "True False"], done.stderr
    assert set(paretoseg.__all__) <= set(dir(paretoseg))


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[str], Table]:
    folder = tmp_path_factory.mktemp("python_api")
    (folder / "python_api_latency.py").write_text(MODULE)
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        study = Study(VALUES)
        front = study.launch(progress=lines.append)
        yield study, lines, front  # type: ignore[misc]


def test_a_study_of_a_dict_is_launched_and_tells_its_progress(launched: tuple[Study, list[str], Table]):
    study, lines, front = launched
    assert len([line for line in lines if "finished" in line]) == 2
    assert study.config.study.output_dir == Path.cwd() / "out" and study.config.study.python_path == Path.cwd()
    assert 1 <= len(front) <= 2 and front.rows == study.front().rows
    assert repr(study) == f"Study('python', {len(study.records())} trials)"


def test_rows_hold_dimensions_scores_and_latencies(launched: tuple[Study, list[str], Table]):
    study, _, front = launched
    row = front[0]
    assert row["family"] == "lcnet" and row["width"] in (0.25, 0.5) and row["network"].startswith("lcnet ×")
    assert 0 < row["val_miou"] < 1 and row["latency_low_ms"] == row["latency_ms"] > 0.1
    trials = study.trials()
    finished = [item for item in trials if item["outcome"] == "finished"]
    assert len(finished) == 2 and [item["trial"] for item in trials] == list(range(len(trials)))
    assert {"reason", "epoch", "duration_s"} <= set(trials.columns)
    assert study.optuna_study.study_name == "python" and [item.name for item in study.objectives] == [
        "val_miou",
        "latency_ms",
    ]


def test_a_launched_study_is_reported_exported_and_drawn(launched: tuple[Study, list[str], Table], tmp_path: Path):
    study, _, front = launched
    page = study.report(tmp_path / "page.html")
    assert page == tmp_path / "page.html" and "lcnet" in page.read_text() and study.report().name == "report.html"
    bundle = study.export(front[0]["trial"], tmp_path / "bundle")
    assert bundle == tmp_path / "bundle" and (bundle / "model.onnx").is_file()
    assert study.front()[0]["bundle"] != str(bundle)  # the study's own bundle stays its own
    figure = study.plot_front()
    assert any(trace.name and "front" in trace.name for trace in figure.data)
    with pytest.raises(UserError, match="the study has no trial 99"):
        study.export(99)


def test_the_same_study_is_opened_by_its_yaml(launched: tuple[Study, list[str], Table]):
    study, _, front = launched
    path = Path("study.yaml")
    path.write_text(yaml.safe_dump(VALUES))
    again = Study(str(path), overrides=["search.trials=3"])
    assert again.front().rows == front.rows and again.config.search.trials == 3
    assert Study(again.config).config == again.config
    assert paretoseg.load_config("study.yaml") == study.config
    with pytest.raises(UserError, match="overrides change the values of a YAML file"):
        Study(VALUES, overrides=["search.trials=3"])


def test_mistakes_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^the study: training.epoch is not a known key; did you mean epochs\?"):
        Study({**VALUES, "training": {"epoch": 1}})
    values = {**VALUES, "device": {"latency_model": "m.json", "latency_budget_ms": 1}}
    with pytest.raises(UserError, match="there is no study at"):
        Study(values).front()
    assert repr(Study(values)) == "Study('python', 0 trials)"
    with pytest.raises(UserError, match=r"a calibration needs time: minutes must be above 0, but is 0"):
        Study(values).calibrate(minutes=0)
    with pytest.raises(UserError, match="python_api_latency:predict, a function: there is nothing to calibrate"):
        Study(VALUES).calibrate()


# -- tables

ROWS = [{"trial": 0, "network": "<b>", "val_miou": 0.51234, "x": 1}, {"trial": 1, "val_miou": None, "y": 2}]


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_a_table_for_a_loop_for_the_eye_and_for_pandas(monkeypatch: pytest.MonkeyPatch):
    table = Table(ROWS, shown=["trial", "network", "val_miou"])
    assert table.columns == ("trial", "network", "val_miou", "x", "y") and table[1]["x"] is None
    assert [row["trial"] for row in table] == [0, 1] and table.column("y") == [None, 2]
    assert repr(table).splitlines() == ["trial  network  val_miou", "0      <b>      0.5123", "1      –        –"]
    html = _Cells()
    html.feed(table._repr_html_())
    assert html.cells == ["trial", "network", "val_miou", "0", "<b>", "0.5123", "1", "–", "–"]
    with pytest.raises(KeyError, match="no column 'z'"):
        table.column("z")
    assert repr(Table([])) == "Table(0 rows)"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pandas, which is not installed. Run: pip install pandas"):
        table.to_dataframe()


def test_a_data_frame_has_every_column():
    pandas = pytest.importorskip("pandas")
    frame = Table(ROWS, shown=["trial"]).to_dataframe()
    assert isinstance(frame, pandas.DataFrame) and list(frame.columns) == ["trial", "network", "val_miou", "x", "y"]
