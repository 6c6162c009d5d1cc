"""docs/python.md: each block of code does what the page says, each YAML is accepted, each quoted sentence is the one that is raised."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
import yaml
from PIL import Image

from paretoseg import KernelSpec, NetworkSpace, SplitPredictions, Study, StudyConfig, UserError, get_space

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
BASE: dict[str, Any] = {
    "study": {"name": "page", "storage": "sqlite:///page.db", "output_dir": "out"},
    "data": {"kind": "synthetic"},
    "device": {"latency_model": "m.json", "latency_budget_ms": 1},
}


def block(text: str) -> dict[str, Any]:
    """The names that the one block with this text in it defines."""
    (found,) = [item for item in PYTHON if text in item]
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile("from __future__ import annotations\n" + found, "docs/python.md", "exec"), names)
    return names


def test_every_call_on_a_study_exists():
    named = {name for item in PYTHON for name in re.findall(r"\bstudy\.(\w+)\(", item)}
    table = PAGE[PAGE.index("| call | returns |") : PAGE.index("A `Table` is")]
    named |= {
        name for row in re.findall(r"^\| (`.*?`) \| ", table, re.MULTILINE) for name in re.findall(r"`(\w+)", row)
    }
    assert named - {"Study"} >= {"calibrate", "launch", "front", "trials", "records", "report", "export", "plot_front"}
    assert named - {"Study", "config"} <= set(dir(Study))
    for item in PYTHON:
        compile(item, "docs/python.md", "exec")


@pytest.mark.parametrize("text", YAML, ids=lambda text: text.split(":")[0])
def test_every_yaml_is_accepted(text: str):
    values = yaml.safe_load(text)
    merged = {
        **BASE,
        **{key: {**BASE.get(key, {}), **value} if isinstance(value, dict) else value for key, value in values.items()},
    }
    assert StudyConfig.model_validate(merged).references


def test_the_space_builds_what_it_is_asked_for():
    from search_spaces.spaces.custom import CustomSpace

    own = block("class PlainSpace")["PlainSpace"]
    assert issubclass(own, NetworkSpace)
    space = CustomSpace(own(kernel=5), {"resolutions_px": [[64, 96]]})
    candidate = space.candidate({**space.default().params, "prune_ratio": 0.5})
    assert space.build_pruned(candidate, 3)(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 16, 24)


def test_the_data_set_reads_files(tmp_path: Path):
    for number in range(6):
        Image.fromarray(np.full((8, 12, 3), 40 * number, np.uint8)).save(tmp_path / f"{number}_image.png")
        Image.fromarray(np.full((8, 12), number % 2, np.uint8)).save(tmp_path / f"{number}_label.png")
    opened = block("def open_mine")["open_mine"]
    train, val = opened(tmp_path, "train"), opened(tmp_path, "val")
    assert (len(train), len(val)) == (4, 2) and val.name(1) == "5_image" and val.label(1).max() == 1
    val.check()


def test_the_metric_the_latency_function_and_the_sampler():
    label, prediction = np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 0]], np.uint8)
    split = SplitPredictions(lambda: iter([(prediction, label)]), 1, np.zeros((2, 2), np.int64), 255)
    assert block("def error_rate")["error_rate"](split) == 0.5
    estimate = block("def predict")["predict"]([KernelSpec("conv", "a", 20 * 10**6, 10, 10, 10)])
    assert estimate.latency_ms == pytest.approx(1.004) and estimate.low_ms < 1 < estimate.high_ms
    sampler = block("def make")["make"](seed=1, population_size=20)
    assert 0 <= optuna.create_study(sampler=sampler).ask().suggest_float("x", 0, 1) <= 1


SPACE = "class Space:\n    def __init__(self, kernel): ...\n"


@pytest.mark.parametrize(
    ("provoke", "start"),
    [
        (lambda: get_space("page_absent:Space"), "no such module"),
        (lambda: get_space("page_mine:Spce"), "no such name"),
        (lambda: get_space("page_fails:Space"), "the module fails"),
        (lambda: get_space("page_mine:Space", {"kernal": 3}), "an unknown option"),
        (lambda: get_space("page_mine:Space"), "a missing option"),
    ],
)
def test_quoted_sentences_are_the_ones_that_are_raised(
    provoke: Callable[[], Any], start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "page_mine.py").write_text(SPACE)
    (tmp_path / "page_fails.py").write_text("x\n")
    (quoted,) = re.findall(rf"^\| {start} \| `(.*)` \|$", PAGE, re.MULTILINE)
    with pytest.raises(UserError) as raised:
        provoke()
    message = re.sub(r"page_\w+", "mine", str(raised.value))
    for part in quoted.split("…"):
        assert part.strip() in message, message
    for name in ("page_mine", "page_fails"):
        sys.modules.pop(name, None)
