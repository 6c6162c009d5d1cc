"""The benchmarks of training run from end to end on a handful of small images in CamVid's layout, and write what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import camvid_train, references, rung_ranking, train_throughput
from trial_runner.evaluate import evaluate


def test_camvid_train_reports_its_time_and_leaves_a_network_that_evaluates(camvid: Path, tmp_path: Path):
    arguments = ["--data", camvid, "--weights", "none", "--minutes", "0.2", "--out", tmp_path / "out"]
    arguments += ["--json", tmp_path / "rows.json", "--size", "64x96", "--workers", "2"]
    camvid_train.main([str(argument) for argument in arguments])
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["epochs"] >= 1 and row["minutes"] > 0
    assert row["curve"][-1] == [row["epochs"], pytest.approx(row["val_miou"])]
    assert evaluate(tmp_path / "out" / "network.pt", root=camvid).miou == pytest.approx(row["val_miou"])


def test_train_throughput_compares_the_loops(camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--data", camvid, "--json", tmp_path / "rows.json", "--out", tmp_path / "out", "--pairs", "1"]
    arguments += [
        "--networks",
        "mobilenetv3_small:0.25",
        "--size",
        "32x64",
        "--batch",
        "4",
        "--threads",
        "1",
        "--workers",
        "1",
    ]
    train_throughput.main([str(argument) for argument in arguments])
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert min(row[f"{name}_images_per_s"] for name in ("plain", "ours", "network")) > 0
    assert 0 <= row["ours_waiting_share"] < 1 and 0 < row["plain_waiting_share"] < 1
    assert "mobilenetv3_small ×0.25 + fpn 32x64" in capsys.readouterr().out


@pytest.mark.slow
def test_references_are_trained_and_measured_beside_a_network_of_the_space(camvid: Path, tmp_path: Path, capsys):
    arguments = ["--data", camvid, "--json", tmp_path / "rows.json", "--out", tmp_path / "out", "--minutes", "0.001"]
    references.main([*map(str, arguments), "--size", "64x96", "--networks", "fast_scnn"])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["space"] for row in rows] == ["references", "encoder_decoder", "encoder_decoder"]
    assert all(row["epochs"] == 1 and 0 <= row["val_miou"] <= 1 and row["measured_ms"] > 0 for row in rows)
    assert rows[-1]["macs"] < 0.7 * rows[-2]["macs"] and "pruned 0.5" in capsys.readouterr().out


@pytest.mark.slow
def test_rung_ranking_ranks_candidates_and_goes_on_where_it_stopped(camvid: Path, tmp_path: Path):
    arguments = ["--data", camvid, "--json", tmp_path / "rows.json", "--out", tmp_path / "out", "--candidates", "4"]
    arguments += ["--epochs", "3", "--rungs", "1,2,5", "--size", "32x64", "--seeds", "2", "--jobs", "1"]
    for _ in range(2):
        rung_ranking.main([str(argument) for argument in arguments])
        (row,) = json.loads((tmp_path / "rows.json").read_text())
        assert (row["set"], row["candidates"], row["seeds"], row["epochs"]) == ("scratch", 4, 2, 3)
        assert [rung["epoch"] for rung in row["rungs"]] == [1, 2]
        assert len(row["curves"]) == 8 and all(len(one["curve"]) == 3 for one in row["curves"])


def test_rank_correlation_and_what_a_rung_keeps_worked_by_hand():
    assert rung_ranking.rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert rung_ranking.rank_correlation([1, 2, 3], [3, 1, 2]) == pytest.approx(-0.5)
    late = np.array([6, 5, 4, 3, 2, 1])
    assert rung_ranking.best_third_kept(np.array([6, 0, 5, 4, 3, 2]), late) == 0.5
    curves = {(n, 1): {1: v, 2: 2 * v} for n, v in enumerate([0.1, 0.2, 0.3])}
    drawn = [
        type("C", (), {"params": {"family": "f", "width": 1, "decoder": "d", "prune_ratio": 0, "learning_rate": 0.1}})
    ] * 3
    row = rung_ranking.summary("scratch", drawn, curves, [1, 2])
    assert row["rungs"] == [{"epoch": 1, "spearman": pytest.approx(1.0), "best_third_kept": 1.0}]
    assert row["spearman_between_seeds"] is None
