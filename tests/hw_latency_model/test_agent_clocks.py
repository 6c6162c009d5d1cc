"""Power mode and clocks: locked, restored, and what happens where they cannot be."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from fake_board.harness import AGENT, Kit, fake_onnx
from fake_board.tree import FakeBoard, make_board, unlocked


def test_the_5w_profile_is_slower_and_the_mode_is_given_back(board: FakeBoard, kit: Kit, tmp_path: Path) -> None:
    other = make_board(tmp_path / "maxn", board.python, mode="0")
    slow = Kit(tmp_path / "slow", board.python, other.root)
    slow.write({"net": fake_onnx(ms=5.0)}, power_profile="5w")
    assert slow.run(other.environment("8.2.1.8")).returncode == 0
    assert slow.measured()["net"]["latency_ms_p50"] == pytest.approx(4.5, rel=0.01), "614.4 instead of 921.6 MHz"
    assert (other.root / "var/lib/nvpmodel/status").read_text() == "0\n"


def test_restore_after_a_crash(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=1.0, build_s=30)}, power_profile="maxn")
    process = kit.start(board.environment("8.2.1.8"))
    deadline = time.monotonic() + 20
    while not board.builds() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not unlocked(board)
    command = [board.python, str(AGENT), "restore", "--root", str(board.root)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert unlocked(board)
    again = subprocess.run(command, capture_output=True, text=True)
    assert "nothing to give back" in again.stdout


def test_clocks_that_do_not_lock_are_told(board: FakeBoard, kit: Kit) -> None:
    (board.root / "jetson_clocks.weak").write_text("")
    kit.write({"net": fake_onnx(ms=1.0)}, power_profile="maxn")
    done = kit.run(board.environment("8.2.1.8"))
    assert done.returncode == 0
    facts = kit.records("board")[0]
    assert not facts["clocks_locked"]
    assert "did not lock" in facts["clocks_note"]
    assert "clocks are not locked" in done.stderr
    assert unlocked(board)


def test_another_power_mode_is_not_measured_as_the_one_asked_for(board: FakeBoard, kit: Kit) -> None:
    (board.root / "nvpmodel.stuck").write_text("")
    kit.write({"net": fake_onnx(ms=1.0)}, power_profile="maxn")
    done = kit.run(board.environment("8.2.1.8"))
    assert done.returncode == 2
    assert "did not switch to maxn" in done.stderr
    assert not kit.measured()
    (board.root / "nvpmodel.stuck").unlink()
    kit.edit(power_profile="40w")
    assert "no power mode '40w'; it has 5w, maxn" in kit.run(board.environment("8.2.1.8")).stderr
