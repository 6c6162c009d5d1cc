"""The benchmark runs from training to table on the built-in scenes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quantization import main


def test_every_method_gets_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--families", "resnet10t", "--decoder", "lraspp", "--size", "64x96", "--epochs", "2", "--images", "16"]
    main([*arguments, "--json", str(tmp_path / "rows.json"), "--threads", "1", "--calibration-images", "8", "--quick"])
    rows = {row["method"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert set(rows) == {"FP32", "PTQ average", "PTQ minmax", "QAT", "FP16"}
    for method in ("PTQ average", "PTQ minmax", "QAT"):
        assert rows[method]["parity"] and rows[method]["size_ratio"] < 0.35 and rows[method]["latency_ms"] > 0
    assert "speed-up" in capsys.readouterr().out
