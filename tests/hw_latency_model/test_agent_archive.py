"""The agent's archive: one file with the same bytes everywhere, which runs from anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fake_board.python36 import need_python36

from hw_latency_model.board import agent_archive
from hw_latency_model.board.agent_archive import AGENT_FILE, write_agent
from hw_latency_model.board.kit import agent_path
from hw_latency_model.board.transport.offline import write_offline_kit


def test_the_agent_runs_from_a_copy_of_its_one_file(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "paretoseg_agent.pyz"
    copy.parent.mkdir()
    copy.write_bytes(agent_path().read_bytes())
    line = [need_python36(), "-I", str(copy), "check", "--root", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["power_note"] == "no power rail"


def test_named_relatively_it_finds_itself_again_as_a_child(tmp_path: Path) -> None:
    """`check` probes each backend in a child: the reasons are those of the runtimes, not of a child that did not start."""
    write_agent(tmp_path / AGENT_FILE)
    line = [need_python36(), AGENT_FILE, "check", "--root", str(tmp_path / "root")]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    backends = json.loads(done.stdout)["backends"]
    assert backends["tensorrt"] == "not here: No module named 'tensorrt'"
    assert backends["trtexec"].startswith("not here: trtexec was not found")


def test_the_package_runs_unpacked_too(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "hw_latency_model.agent", "check", "--root", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backends"]["trtexec"].startswith("not here: trtexec was not found")


def test_the_bytes_depend_on_nothing_but_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = agent_path().read_bytes()
    copied = tmp_path / "agent"
    shutil.copytree(agent_archive._SOURCES, copied, ignore=shutil.ignore_patterns("__pycache__"))
    for number, path in enumerate(sorted(copied.rglob("*.py"), reverse=True)):
        os.utime(path, (1_000_000_000 + number, 1_500_000_000 + number))
        path.chmod(0o600)
    (copied / "__pycache__").mkdir()
    (copied / "__pycache__" / "left.pyc").write_bytes(b"x")
    monkeypatch.setattr(agent_archive, "_SOURCES", copied)
    assert write_agent(tmp_path / "one.pyz").read_bytes() == expected
    (copied / "watch.py").write_text("")
    assert write_agent(tmp_path / "two.pyz").read_bytes() != expected


def test_it_holds_sources_that_can_be_read_as_they_are() -> None:
    with zipfile.ZipFile(agent_path()) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {"__main__.py", "paretoseg_agent/__init__.py", "paretoseg_agent/backends/tensorrt.py"} <= set(names)
        assert all(name.endswith(".py") for name in names)
        text = archive.read("paretoseg_agent/watch.py")
    assert text == (agent_archive._SOURCES / "watch.py").read_bytes()
    assert agent_path().read_bytes().startswith(b"#!/usr/bin/env python3\n")


def test_a_kit_of_an_earlier_version_is_carried_with_the_agent_that_its_script_names(tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "paretoseg_agent.py").write_text("the one file of earlier versions")
    target = write_offline_kit(kit, tmp_path / "stick", device="nano", hours=1.0, command="paretoseg calibrate")
    assert (target / AGENT_FILE).read_bytes() == agent_path().read_bytes()
    assert f" {AGENT_FILE} run " in (target / "run.sh").read_text()
