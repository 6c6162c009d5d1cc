"""The pruning benchmark on a handful of made images: every row is there, with shapes that the ratio explains."""

from __future__ import annotations

import json

import timm
import torch

from benchmarks.pruning import main
from hw_latency_model.bundled.load import FOLDER as BOXED


def test_every_row_is_trained_and_measured(camvid, tmp_path, capsys):
    arguments = ["--data", str(camvid), "--epochs", "2", "--json", str(tmp_path / "rows.json")]
    arguments += ["--out", str(tmp_path / "out"), "--ratios", "0", "0.5", "--size", "32x64", "--threads", "1"]
    main([*arguments, "--family", "lcnet", "--width", "0.25", "--cut-after", "0.5"])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["ratio"], row["method"]) for row in rows] == [(0, "l1"), (0.5, "l1"), (0.5, "admm"), (0.5, "scratch")]
    dense, *pruned = rows
    assert dense["macs_ratio"] == dense["speed_up"] == 1.0
    assert len({(row["macs"], row["params"]) for row in pruned}) == 1
    assert all(row["macs_ratio"] < 0.7 and row["measured_ms"] > 0 and 0 <= row["val_miou"] <= 1 for row in pruned)
    assert len({tuple(point[1] for point in row["curve"]) for row in pruned}) > 1
    assert "speed-up" in capsys.readouterr().out


def test_other_allocations_stand_beside_the_uniform_one(camvid, tmp_path):
    donor = timm.create_model("lcnet_100", pretrained=False)
    torch.save(donor.state_dict(), tmp_path / "lcnet_100.pth")
    arguments = ["--data", str(camvid), "--epochs", "1", "--json", str(tmp_path / "rows.json"), "--methods", "l1"]
    arguments += ["--out", str(tmp_path / "out"), "--ratios", "0", "0.5", "--size", "32x64", "--threads", "1"]
    arguments += ["--family", "lcnet", "--width", "0.5", "--weights", str(tmp_path / "lcnet_100.pth")]
    main(
        [
            *arguments,
            "--latency-model",
            str(BOXED / "jetson-nano-fp32.json"),
            "--allocations",
            "uniform",
            "latency",
            "sensitivity",
        ]
    )
    dense, even, latency, sensitivity = json.loads((tmp_path / "rows.json").read_text())
    assert (dense["ratio"], dense["allocation"]) == (0, "uniform")
    assert [row["allocation"] for row in (even, latency, sensitivity)] == ["uniform", "latency", "sensitivity"]
    assert len({row["params"] for row in (even, latency, sensitivity)}) == 3
    assert sensitivity["macs"] <= even["macs"] < dense["macs"]
