"""`paretoseg fit-latency`: a user's own table, from its file to predictions, and what is wrong with one."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hw_latency_model.few_shot.cell_networks import OPS
from hw_latency_model.few_shot.experts import Expert, WorkLine, weights_of
from hw_latency_model.few_shot.fit import DeviceFit
from hw_latency_model.few_shot.latency_table import LatencyTable
from search_spaces import get_space
from search_spaces._common.errors import UserError
from trial_runner.cli.main import main

COSTS = {"one": (0.5, 1.0, 4.0, 0.6), "two": (0.7, 1.3, 4.5, 1.0), "unlike": (4.0, 0.1, 0.1, 6.0)}
"""Milliseconds of skip, 1x1, 3x3 and pooling on each device."""


def cell(ops: tuple[str, ...]) -> str:
    a, b, c, d, e, f = ops
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """Every 100th cell with latencies on three devices, the last of which is unlike the others."""
    rng = np.random.default_rng(0)
    found = []
    for ops in list(product(OPS, repeat=6))[7::100]:
        times = {
            name: f"{(1.0 + sum(ops.count(op) * ms for op, ms in zip(OPS[1:], costs, strict=True))) * np.exp(0.02 * rng.normal()):.5g}"
            for name, costs in COSTS.items()
        }
        found.append({"arch_str": cell(ops), **times})
    return found


@pytest.fixture
def table(tmp_path: Path, rows: list[dict[str, str]]) -> Callable[..., Path]:
    """Write the table, changed by a function, into the test's folder."""

    def write(change: Callable[[list[dict[str, str]]], object] = lambda lines: None) -> Path:
        lines = [dict(line) for line in rows]
        change(lines)
        path = tmp_path / "table.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
        return path

    return write


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["fit-latency", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_device_is_predicted_from_ten_of_its_latencies_and_another_device(
    table: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    out = tmp_path / "all.csv"
    options = ("--target", "one", "--sources", "two", "--samples", 10, "--json", "--out", out)
    status, text, _ = run(capsys, table(), *options)
    answer = json.loads(text)
    assert status == 0 and (answer["target"], answer["sources"], answer["samples"]) == ("one", ["two"], 10)
    assert sum(row["used"] for row in answer["predictions"]) == 10
    judged = answer["judged"]
    assert judged["spearman"] > 0.97 and judged["mape"] < 0.08 and 0.7 < judged["coverage90"] <= 1.0
    assert sum(answer["weights"].values()) == pytest.approx(1.0)
    with out.open() as lines:
        written = list(csv.DictReader(lines))
    assert [float(row["latency_ms"]) for row in written] == [row["latency_ms"] for row in answer["predictions"]]
    assert all(row["low_ms"] <= row["latency_ms"] <= row["high_ms"] for row in answer["predictions"])


def test_a_source_that_is_unlike_the_target_is_not_worse_than_none(
    table: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    def rank(*options: object) -> float:
        answer = json.loads(run(capsys, table(), "--target", "one", "--samples", 10, "--json", *options)[1])
        return float(answer["judged"]["spearman"])

    none = rank()
    assert rank("--sources", "unlike") >= none - 0.005
    assert rank("--sources", "two") >= none


def test_weights_follow_the_errors_on_the_target_and_arithmetic_counts_only_where_it_is_far_better():
    def weights(with_sources: float, without: float, work: float, count: int = 10) -> list[float]:
        noise, logs = np.random.default_rng(0).normal(size=(3, count)), np.linspace(0.0, 2.0, count)
        fits = [
            DeviceFit(np.zeros(1), np.zeros(1), 1.0, None, np.ones(count), logs + error * row)  # type: ignore[arg-type]
            for error, row in zip((with_sources, without), noise, strict=False)
        ]
        line = WorkLine(np.zeros((count, 2)), np.zeros(2), 1.0, 0.1, logs + work * noise[2])
        experts = [*(Expert(None, fit, 1.0) for fit in fits), line]  # type: ignore[arg-type]
        found = weights_of(experts, logs)
        assert found.sum() == pytest.approx(1.0) and found.min() >= 0.0
        return found.tolist()

    alike, unlike, unlike_of_many = weights(0.05, 0.3, 0.3), weights(0.3, 0.05, 0.3), weights(0.3, 0.05, 0.3, 100)
    assert alike[0] > 0.7 > 0.5 > unlike[0] > unlike_of_many[0]
    assert weights(0.05, 0.05, 0.04)[2] == 0.0 and weights(0.3, 0.3, 0.02)[2] > 0.8


def test_rows_without_a_latency_of_the_target_are_predicted_and_too_few_latencies_name_rows_to_measure(
    table: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    def empty(lines: list[dict[str, str]]) -> None:
        for line in lines[8:]:
            line["one"] = ""

    path = table(empty)
    answer = json.loads(run(capsys, path, "--target", "one", "--sources", "two", "--json")[1])
    assert answer["samples"] == 8 and answer["judged"] is None
    assert (
        all(row["latency_ms"] > 0 for row in answer["predictions"]) and answer["predictions"][20]["measured_ms"] is None
    )
    status, _, error = run(capsys, path, "--target", "one", "--sources", "two", "--samples", 12)
    assert status == 2 and "has 8 latencies, fewer than --samples 12" in error and "12 networks" in error
    assert "are in rows" in error


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda lines: None, ("--target", "onee"), "has no column onee; did you mean 'one'?"),
        (lambda lines: lines[3].update(one="nan"), ("--target", "one"), "holds nan in row 5, which is no latency"),
        (lambda lines: lines[3].update(one="-2"), ("--target", "one"), "holds -2 in row 5, which is no latency"),
        (lambda lines: lines[3].update(one="fast"), ("--target", "one"), "no number: 'fast' in row 5"),
        (lambda lines: lines[9].update(arch_str=lines[2]["arch_str"]), ("--target", "one"), "rows 4 and 11"),
        (lambda lines: lines.__delitem__(slice(1, None)), ("--target", "one"), "has 1 row"),
        (lambda lines: lines[5].update(arch_str=" "), ("--target", "one"), "row 7"),
        (
            lambda lines: [line.update(two=f"{1000 * float(line['two'])}") for line in lines[:9]],
            ("--target", "one", "--sources", "two"),
            "seems to mix units",
        ),
        (lambda lines: [line.update(x_us="3") for line in lines], ("--target", "x_us"), "in microseconds"),
        (lambda lines: [line.pop("arch_str") for line in lines], ("--target", "one"), "needs one column that names"),
        (lambda lines: None, ("--target", "one", "--sources", "one,two"), "a device cannot predict itself"),
        (lambda lines: None, ("--target", "one", "--samples", "2"), "are too few for a model"),
    ],
)
def test_a_bad_table_is_one_sentence(
    change: Callable[[list[dict[str, str]]], object],
    options: tuple[str, ...],
    words: str,
    table: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
):
    status, _, error = run(capsys, table(change), *options)
    assert status == 2 and words in error.replace("\n", " ") and "Traceback" not in error


def test_onnx_files_and_candidates_are_read_as_networks(tmp_path: Path):
    for width in (4, 8, 16):
        net = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 8, 1))
        torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), tmp_path / f"{width}.onnx", dynamo=False)
    path = tmp_path / "files.csv"
    path.write_text("onnx,mine\n" + "".join(f"{width}.onnx,1\n" for width in (4, 8, 16)))
    pool = LatencyTable.read(path).pool()
    assert pool.work is not None and np.diff(pool.work).min() > 0
    space = get_space("encoder_decoder", {})
    candidates = [space.candidate({**space.default().params, "width": width}) for width in (0.5, 1.0)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["candidate", "mine"], *([json.dumps(item.to_dict()), 1] for item in candidates)])
    pool = LatencyTable.read(path).pool()
    assert pool.work is not None and pool.work[1] > pool.work[0]
    for text, words in (
        ("onnx,mine\ngone.onnx,1\n8.onnx,2\n", "no ONNX file at"),
        ("candidate,mine\n{},1\n[],2\n", "is no candidate"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            LatencyTable.read(path).pool()
