"""`paretoseg measure`: a study's front on a board, over a way that stays open and on a stick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exports import read_bundle
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.launch import launch

BOARD = """
device: {{name: {name}, profile: {profile}, precision: fp32, lock_clocks: false, backend: onnxruntime}}
transport: {transport}
calibration: {{output_dir: board}}
protocol: {{max_s: 0.05, warmup_s: 0.02, min_runs: 5, rounds: 2, energy_s: 0, cool_down_s: 0}}
"""


def board_file(study: Path, *, transport: str = "local", name: str = "beside", profile: str = "local-cpu") -> Path:
    path = study.with_name("board.yaml")
    path.write_text(BOARD.format(transport=transport, name=name, profile=profile))
    return path


def test_on_a_stick_and_back(write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(trials=2)
    board = board_file(study, transport="offline")
    launch(load_config(study), lambda line: None)
    assert main(["measure", str(study), "--board", str(board)]) == 0
    kit = study.with_name("board") / "networks-kit-0001"
    assert f"kit: {kit}" in capsys.readouterr().out
    assert "paretoseg measure STUDY.yaml --board DEVICE.yaml --results PATH" in (kit / "README.txt").read_text()
    subprocess.run(
        ["sh", str(kit / "run.sh")], env={**os.environ, "PYTHON": sys.executable}, check=True, capture_output=True
    )
    assert main(["measure", str(study), "--board", str(board), "--results", str(kit)]) == 0
    capsys.readouterr()
    assert main(["front", str(study), "--json"]) == 0
    front = json.loads(capsys.readouterr().out)
    assert front and all(member["measured_ms"] for member in front)
    assert all(read_bundle(Path(member["bundle"])) for member in front), "their checksums still hold"


def test_mistakes_are_told_in_a_sentence(write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(trials=2)
    nano = board_file(study, name="jetson-nano", profile="jetson-nano")
    lines: list[str] = []
    result = launch(load_config(study, [f"device.board={nano.name}", "device.measure_front=true"]), lines.append)
    assert "the study is for local-cpu, the board is a jetson-nano" in lines[-1]
    assert not any(record.measured_ms for record in result.front), "the launch ended all the same"
    assert main(["measure", str(study), "--board", str(nano)]) == 2
    assert "Give the DEVICE.yaml of a local-cpu" in capsys.readouterr().err
    assert main(["measure", str(study), "--trial", "99"]) == 2
    assert "has no trial 99" in capsys.readouterr().err
    assert main(["measure", str(study), "--results", str(nano)]) == 2
    assert "give its --board DEVICE.yaml" in capsys.readouterr().err
