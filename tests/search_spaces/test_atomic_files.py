"""Atomic writes of processes that are killed: nothing partial is seen, and a later launch removes what they left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search_spaces._common.files import remove_left_behind

KILLED = """
import os, signal, sys
from pathlib import Path
from search_spaces._common import files

target, moment = Path(sys.argv[1]), sys.argv[2]
if moment == "file":
    with files.atomic_path(target) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
replace = Path.replace
def killed_after_one(self, other):
    replace(self, other)
    os.kill(os.getpid(), signal.SIGKILL)
with files.atomic_folder(target) as temporary:
    (temporary / "new").write_text("new")
    if moment == "folder":
        os.kill(os.getpid(), signal.SIGKILL)
    Path.replace = killed_after_one
"""


def kill_in(target: Path, moment: str) -> list[Path]:
    """Kill a process in an atomic write; the hidden names that it leaves."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, target, moment], env=environment, timeout=60)
    assert done.returncode == -signal.SIGKILL
    return sorted(target.parent.glob(".*"))


def age(paths: list[Path]) -> None:
    for path in paths:
        os.utime(path, (time.time() - 7200.0,) * 2)


@pytest.mark.parametrize("moment", ["file", "folder"])
def test_what_a_killed_write_leaves_is_removed_once_nobody_can_be_writing_to_it(tmp_path: Path, moment: str):
    target = tmp_path / "trials" / "target"
    left = kill_in(target, moment)
    assert len(left) == 1 and not target.exists()
    remove_left_behind(tmp_path)
    assert left[0].exists(), "a young one may be written to"
    age(left)
    remove_left_behind(tmp_path)
    assert not any(target.parent.iterdir())


def test_a_folder_that_was_killed_between_its_renames_gets_its_content_back(tmp_path: Path):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").write_text("old")
    left = kill_in(target, "renames")
    assert len(left) == 2 and not target.exists()
    age(left)
    remove_left_behind(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"] and (target / "old").read_text() == "old"


def test_what_others_hide_in_the_folder_is_kept(tmp_path: Path):
    kept = [tmp_path / name for name in (".gitignore", ".cache", "model.partial", ".notes.partial", ".a.b.12345678")]
    for path in kept:
        path.write_text("mine")
    age(kept)
    remove_left_behind(tmp_path)
    assert all(path.exists() for path in kept)
