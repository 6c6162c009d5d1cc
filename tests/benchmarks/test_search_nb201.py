"""The comparison of samplers on a table of cells: its rows, its goals, how it continues, what it refuses."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cell_search.samplers import Unavailable, searcher
from benchmarks.cell_search.table import arithmetic, read_tables
from benchmarks.search_nb201 import goals, main, run
from hw_latency_model.few_shot.cell_networks import OPS, CellNetwork
from search_spaces._common.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cells; accuracy and latency grow with the convolutions on any edge, and a cell without any has no latency."""
    path = tmp_path_factory.mktemp("cells") / "cells.csv"
    lines = ["arch_str,test_acc,board_ms"]
    for a, b, c, d, e, f in itertools.product(OPS, repeat=6):
        work = sum({"nor_conv_3x3": 9, "nor_conv_1x1": 3, "avg_pool_3x3": 1}.get(op, 0) for op in (a, b, c, d, e, f))
        latency = "" if {a, b, c, d, e, f} == {"none"} else f"{2 + work + 2 * (a == OPS[3]):g}"
        accuracy = 50 + 10 * np.log1p(work) - 5 * (f == OPS[0])
        lines.append(f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|,{accuracy:.3f},{latency}")
    path.write_text("\n".join(lines))
    return path


def test_rows_goals_and_continuation(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.json"
    arguments = ["--data", str(data), "--targets", "board_ms", "--samplers", "random,known_cost", "--json", str(out)]
    main([*arguments, "--evaluations", "12", "--seeds", "1"])
    first = json.loads(out.read_text())
    assert len(first["rows"]) == 24 and {"target", "sampler", "seed", "evaluations", "hypervolume"} <= set(
        first["rows"][0]
    )
    curve = [row["hypervolume"] for row in first["rows"] if row["sampler"] == "random"]
    assert curve == sorted(curve) and 0 < curve[-1] <= 1
    main([*arguments, "--evaluations", "12", "--seeds", "2"])
    again = json.loads(out.read_text())
    assert [row for row in again["rows"] if row["seed"] == 0] == [
        row for sampler in ("random", "known_cost") for row in first["rows"] if row["sampler"] == sampler
    ]
    assert len(again["rows"]) == 48 and [row["seeds"] for row in again["goal"]] == [2, 2]
    assert "known_cost" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--evaluations", "13"])


def test_workers_and_noise_change_what_is_told_not_what_is_counted(data: Path, tmp_path: Path):
    result = run(data, ["board_ms"], ["random"], [0], 10, tmp_path / "a.json", workers=4, noise=5.0)
    plain = run(data, ["board_ms"], ["random"], [0], 10, tmp_path / "b.json")
    assert result["rows"][-1]["hypervolume"] == pytest.approx(plain["rows"][-1]["hypervolume"], abs=0.1)


def test_evaluations_to_the_goal_are_the_first_at_99_per_cent():
    rows = [
        {"target": "t", "sampler": "s", "seed": seed, "evaluations": at, "hypervolume": share, "ask_s": 0.0}
        for seed, curve in enumerate([(0.9, 0.99), (0.9, 0.98), (0.99, 0.995)])
        for at, share in enumerate(curve, 1)
    ]
    (row,) = goals(rows)
    assert (row["reached"], row["evaluations_median"], row["evaluations_worst"]) == (2, 2.0, None)


def test_arithmetic_is_that_of_the_published_networks():
    skip, most = CellNetwork(("skip_connect",) * 6), CellNetwork(("nor_conv_3x3",) * 6)
    macs, parameters = arithmetic([skip, most])
    assert macs / 1e6 == pytest.approx([7.78, 220.1], rel=0.01)  # Dong and Yang, ICLR 2020, table of FLOPs
    assert parameters / 1e6 == pytest.approx([0.073, 1.53], rel=0.02)


def test_what_is_missing_is_said(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = read_tables(data, ["board_ms"], "test_acc")["board_ms"]
    assert table.accuracy.min() == 1.0 and table.latency_ms.max() == table.latency_ms[table.accuracy.argmin()]
    for package, name in (("botorch", "botorch"), ("syne_tune", "mo_rea")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(Unavailable, match="not installed"):
            searcher(name, table, 0)
    with pytest.raises(UserError, match="no sampler best"):
        run(data, ["board_ms"], ["best"], [0], 5, tmp_path / "a.json")
    with pytest.raises(UserError, match="has no column other"):
        run(data, ["other"], ["random"], [0], 5, tmp_path / "a.json")
