"""The death of a Ray cluster is noticed at once, and what dead launches left behind is removed. Without Ray itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from search_spaces._common.machine import machine_id, own_process
from trial_runner.backends import ray_watch
from trial_runner.backends.ray_session import remove_dead_folders
from trial_runner.backends.ray_watch import ClusterWatch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "_POLL_S", 0.02)


@pytest.fixture
def raylet(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child with the name and an argument of Ray's service."""
    program = tmp_path / "raylet"
    shutil.copy(sys.executable, program)
    script = "import time; print('up', flush=True); time.sleep(600)"
    command = [program, "-c", script, "--raylet_socket_name=/tmp/a/raylet"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONHOME": sys.base_prefix}
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        yield process
        process.kill()


class Deaths:
    """Reports of a watch."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.told = threading.Event()

    def __call__(self, part: str) -> None:
        self.parts.append(part)
        self.told.set()


@pytest.mark.parametrize("external", [False, True])
def test_a_killed_raylet_is_noticed(raylet: subprocess.Popen[bytes], external: bool):
    deaths = Deaths()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}" if external else None
        watch = ClusterWatch(address, "/tmp/a/raylet" if external else None, deaths)
        watch.start()
        assert not deaths.told.wait(0.3)
        raylet.kill()
        assert deaths.told.wait(30)
        watch.stop()
    assert deaths.parts == ["raylet"]


def test_a_control_service_that_no_longer_listens_is_noticed():
    deaths = Deaths()
    with socket.create_server(("127.0.0.1", 0)) as server:
        watch = ClusterWatch(f"127.0.0.1:{server.getsockname()[1]}", None, deaths)
        watch.start()
        assert not deaths.told.wait(0.3)
    assert deaths.told.wait(30)
    assert deaths.parts == ["control service"]


def test_only_a_cluster_of_its_own_is_ended(raylet: subprocess.Popen[bytes]):
    ClusterWatch("127.0.0.1:1", "/tmp/a/raylet", Deaths()).end_services()
    assert raylet.poll() is None
    ClusterWatch(None, None, Deaths()).end_services()
    assert raylet.wait(30) == -9


SESSION = """
import contextlib, sys, threading, time
from search_spaces._common.errors import UserError
from trial_runner.backends.ray_session import RaySession
from trial_runner.config.study import ComputeSection
from trial_runner.stopping import deferred, stoppable

class Session(RaySession):
    def _live(self):
        self._started.set()
        self._end.wait()
        self._ended.set()

def hand_back():
    print("handed back", flush=True)

import trial_runner.backends.ray_session as module
module._REACTION_S = 0.5
try:
    with stoppable(), Session(ComputeSection(), 1, 0, hand_back) as session:
        print(session.folder, flush=True)
        death = threading.Thread(target=session._on_death, args=("gcs_server",), daemon=True)
        with contextlib.nullcontext() if sys.argv[1] == "reacts" else deferred():  # as deaf to interrupts as a call of Ray
            death.start()
            time.sleep(60)
except UserError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("case", ["reacts", "waits in Ray"])
def test_a_dead_cluster_ends_the_launch_with_a_sentence(case: str, tmp_path: Path):
    pytest.importorskip("ray")
    done = subprocess.run([sys.executable, "-c", SESSION, case], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "have died (gcs_server)" in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert ("handed back" in done.stdout) == (case != "reacts")
    assert not Path(done.stdout.splitlines()[0]).exists()


def test_folders_of_dead_launches_are_removed_and_all_others_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trial_runner.backends.ray_session._temporary_folders", lambda: [tmp_path])
    with subprocess.Popen(["true"]) as process:
        process.wait()
    owners = {
        "pseg-dead": f"{machine_id()}\n{process.pid}\n1",
        "pseg-alive": own_process(),
        "pseg-elsewhere": f"another machine\n{process.pid}\n1",
        "pseg-unknown": None,
        "other": f"{machine_id()}\n{process.pid}\n1",
    }
    for name, owner in owners.items():
        (tmp_path / name / "r").mkdir(parents=True)
        if owner is not None:
            (tmp_path / name / "owner").write_text(owner)
    (tmp_path / "pseg-link").symlink_to(tmp_path / "other")
    remove_dead_folders()
    assert {path.name for path in tmp_path.iterdir()} == (owners.keys() | {"pseg-link"}) - {"pseg-dead"}
