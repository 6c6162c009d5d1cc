"""`paretoseg calibrate DEVICE.yaml`: what the command line adds to a board's calibration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from search_spaces._common.errors import UserError
from trial_runner.cli.calibrate import calibrate_device

DEVICE = """
device: {name: jetson-nano, precision: fp16}
transport: offline
calibration: {hours: 0.02, num_classes: 4, output_dir: out}
space: {families: [lcnet], decoders: [lraspp], widths: [0.25], resolutions_px: [[64, 64], [96, 96]]}
"""


def arguments(folder: Path, **given: Any) -> argparse.Namespace:
    path = folder / "device.yaml"
    path.write_text(DEVICE)
    usual: dict[str, Any] = {
        "device": None,
        "out": None,
        "hours": None,
        "results": None,
        "overrides": [],
        "if_missing": False,
    }
    return argparse.Namespace(study=path, **{**usual, **given})


def test_without_a_way_to_the_board_a_kit_is_written_and_the_next_step_is_told(tmp_path: Path) -> None:
    lines: list[str] = []
    assert calibrate_device(arguments(tmp_path, overrides=["calibration.chains=false"]), lines.append) == 0
    kit = tmp_path / "out" / "kit-0001"
    names = {path.name for path in kit.iterdir()}
    assert names == {"paretoseg_agent.pyz", "jobs.json", "reference.onnx", "onnx", "run.sh", "README.txt"}
    assert f"kit: {kit}: carry it to the board, run `sh run.sh` there" in lines[-1]


def test_options_that_the_file_itself_says_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--device is not for a DEVICE\.yaml.*--set device\.name="):
        calibrate_device(arguments(tmp_path, device="local-cpu"), print)
    with pytest.raises(UserError, match=r"--out is not for a DEVICE\.yaml.*--set calibration\.output_dir="):
        calibrate_device(arguments(tmp_path, out=tmp_path), print)


def test_a_model_that_is_there_is_left_alone_when_asked_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "latency_model.json").write_text("{}")
    lines: list[str] = []
    assert calibrate_device(arguments(tmp_path, if_missing=True), lines.append) == 0
    assert "is there already" in lines[0] and not (tmp_path / "out" / "session").exists()
