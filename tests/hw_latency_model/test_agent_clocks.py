"""Power mode and clocks: locked, restored, and what happens where they cannot be."""

from __future__ import annotations

import json
import os
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


def kill_while_it_builds(board: FakeBoard, kit: Kit) -> None:
    """Kill the agent in the middle of a build, so that it restores nothing."""
    process = kit.start(board.environment("8.2.1.8"))
    deadline = time.monotonic() + 20
    while not board.builds() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()


def test_restore_after_a_crash(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=1.0, build_s=30)}, power_profile="maxn")
    kill_while_it_builds(board, kit)
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


STORED = "/written/by/restore:1\n"


def plant(board: FakeBoard, folder: Path, store: str = STORED) -> Path:
    """Fill a folder as a crashed run leaves it; returns the file that its state names."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    stored = folder / "jetson_clocks.store"
    stored.write_text(store)
    (folder / "state.json").write_text(json.dumps({"store": str(stored)}))
    for path in folder.iterdir():
        path.chmod(0o600)
    return stored


def restored(board: FakeBoard) -> subprocess.CompletedProcess[str]:
    command = [board.python, str(AGENT), "restore", "--root", str(board.root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def passed_to_root(board: FakeBoard) -> list[str]:
    return [call for call in board.calls() if "--restore" in call]


@pytest.mark.parametrize("attack", ["link", "owner", "mode", "file owner", "file link", "hard link", "file mode"])
def test_a_state_that_another_user_may_have_written_reaches_no_root_command(
    board: FakeBoard, tmp_path: Path, attack: str
) -> None:
    folder = board.root / "var/tmp/paretoseg-clocks"
    stored = plant(board, tmp_path / "elsewhere" if attack == "link" else folder)
    other = os.geteuid() + 12345
    if attack in ("owner", "file owner"):
        if os.geteuid() != 0:
            pytest.skip("only root can give a file to another user")
        os.chown(folder if attack == "owner" else stored, other, other)
    elif attack == "link":
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(tmp_path / "elsewhere")
    elif attack == "mode":
        folder.chmod(0o777)
    elif attack == "file mode":
        stored.chmod(0o666)
    else:
        content = tmp_path / "content"
        stored.rename(content)
        stored.symlink_to(content) if attack == "file link" else os.link(content, stored)
    done = restored(board)
    assert done.returncode == 2 and "paretoseg-clocks" in done.stderr and "Traceback" not in done.stderr
    assert not passed_to_root(board)


def test_the_file_given_to_a_root_command_is_never_named_by_the_state(board: FakeBoard, tmp_path: Path) -> None:
    folder = board.root / "var/tmp/paretoseg-clocks"
    plant(board, folder)
    elsewhere = tmp_path / "elsewhere.store"
    elsewhere.write_text("/written/by/restore:2\n")
    (folder / "state.json").write_text(json.dumps({"store": str(elsewhere)}))
    assert restored(board).returncode == 0
    assert (board.root / "written/by/restore").read_text() == "1\n"


def test_the_saved_state_is_closed_to_other_users(board: FakeBoard, kit: Kit) -> None:
    folder = board.root / "var/tmp/paretoseg-clocks"
    folder.mkdir(parents=True)
    folder.chmod(0o775)  # as earlier releases made it under umask 002
    kit.write({"net": fake_onnx(ms=1.0, build_s=30)}, power_profile="maxn")
    kill_while_it_builds(board, kit)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir() if path.stat().st_mode & 0o022] == []
    assert restored(board).returncode == 0
    assert unlocked(board)
