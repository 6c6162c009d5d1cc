"""Ray of one launch: its folder, environment and token, on machines that make it hard; and nothing left behind."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from child_signals import default_signals

from search_spaces._common.errors import UserError
from search_spaces._common.machine import start_time
from trial_runner.backends import ray_session
from trial_runner.backends.ray_session import make_session_folder, ray_environment
from trial_runner.config.study import ComputeSection


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary folder with a short path, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


STUCK = """
import os, subprocess, sys, time
import ray
from trial_runner.backends.ray_session import RaySession
from trial_runner.config.study import ComputeSection
from trial_runner.stopping import stoppable

def never_ready(**arguments):
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", arguments["_temp_dir"]])
    print(started.pid, flush=True)
    while True:
        time.sleep(0.05)

ray.init = never_ready
try:
    with stoppable(ends_process=True), RaySession(ComputeSection(backend="ray"), 1, 0):
        print("started")
except KeyboardInterrupt:
    os._exit(130)
"""


def test_a_stop_abandons_a_start_of_ray_with_the_processes_it_has_started(short: Path):
    environment = {**os.environ, "TMPDIR": str(short), "PYTHONPATH": os.pathsep.join(sys.path)}
    launch = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=default_signals,
    )
    assert launch.stdout is not None
    try:
        helper = int(launch.stdout.readline())
        launch.send_signal(signal.SIGTERM)
        assert launch.wait(60) == 130
        assert not list(short.iterdir())
        stat = Path(f"/proc/{helper}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    finally:
        launch.kill()
        launch.stdout.close()


def test_the_folder_lies_in_tmpdir_where_its_path_is_short_enough(short: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(short))
    folder = make_session_folder()
    assert folder.parent == short and folder.stat().st_mode & 0o777 == 0o700 and not list(folder.iterdir())


@pytest.mark.parametrize("tmpdir", ["{tmp}/" + "pbs.4711.server" * 4, "{tmp}/missing", "relative", "/proc", ""])
def test_another_folder_is_taken_where_tmpdir_does_not_serve(
    tmpdir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmpdir.format(tmp=tmp_path)
    if "pbs" in path:
        Path(path).mkdir()
    monkeypatch.setenv("TMPDIR", path)
    folder = make_session_folder()
    try:
        assert len(os.fsencode(folder)) < 41 and folder.is_dir()
    finally:
        folder.rmdir()


def test_without_any_folder_a_sentence_says_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    full = Path("/tmp")
    monkeypatch.setattr(ray_session, "_temporary_folders", lambda: [tmp_path / ("x" * 60), Path("/proc"), full])
    usage = shutil.disk_usage(full)
    monkeypatch.setattr(ray_session.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(UserError) as caught:
        make_session_folder()
    text = str(caught.value)
    assert "is too long" in text and "/proc: " in text and "/tmp: less than 50 MB free" in text and "Set TMPDIR" in text


def test_variables_of_another_cluster_are_kept_away_and_put_back(monkeypatch: pytest.MonkeyPatch):
    foreign = {
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_TMPDIR": "/scratch",
        "RAY_AUTH_MODE": "disabled",
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_USAGE_STATS_ENABLED": "1",
        "TUNE_RESULT_DIR": "/scratch",
    }
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.8")
    before = dict(os.environ)
    with ray_environment(ComputeSection()):
        inside = dict(os.environ)
        os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does
        os.environ["RAY_JOB_ID"] = "1"
    assert not {"RAY_ADDRESS", "RAY_TMPDIR", "RAY_AUTH_MODE", "TUNE_RESULT_DIR"} & inside.keys()
    assert (inside["RAY_TRAIN_V2_ENABLED"], inside["RAY_USAGE_STATS_ENABLED"]) == ("0", "0")
    assert inside["RAY_memory_usage_threshold"] == "0.8"
    assert dict(os.environ) == before
    with ray_environment(ComputeSection(ray_address="10.0.0.1:6379")):
        assert os.environ["RAY_AUTH_MODE"] == "disabled" and os.environ["RAY_TMPDIR"] == "/scratch"
        assert os.environ["RAY_TRAIN_V2_ENABLED"] == "0"
        assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    assert dict(os.environ) == before


def test_ray_can_be_imported_by_a_user_without_home_and_name(monkeypatch: pytest.MonkeyPatch):
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with ray_environment(ComputeSection()):
        assert Path("~/ray_results").expanduser().is_absolute()
    assert "HOME" not in os.environ


SESSION = """
import json, os, sys
from hw_latency_model.agent.cores import available_cores
from trial_runner.backends.ray_session import RaySession, ray_environment
from trial_runner.config.study import ComputeSection
compute = ComputeSection()
with ray_environment(compute):
    import ray
    with RaySession(compute, available_cores(), 2) as session:
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (session.folder, session.folder / "token")}
        found = ray.cluster_resources()
        usage = ray._common.usage.usage_lib.usage_stats_enabled()
        see = ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
        gpus = ray.get([see.options(num_gpus=1, num_cpus=0).remote(), see.options(num_gpus=2, num_cpus=0).remote()])
print(json.dumps([found["CPU"], list(modes.values()), usage, gpus, session.folder.exists()]))
"""


@pytest.mark.slow
def test_ray_starts_on_a_hostile_machine_and_leaves_nothing_behind(short: Path):
    """A long TMPDIR, a home that cannot be written, another cluster's variables, one core, two slices of a GPU."""
    long = short / ("pbs.4711.server" * 4)
    long.mkdir()
    longest = short / ("x" * (ray_session._LONGEST_BASE - 1 - len(str(short))))
    longest.mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(long),
        "XDG_RUNTIME_DIR": str(longest),
        "HOME": "/proc/nowhere",
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_TMPDIR": "/nowhere",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "1",
        "CUDA_VISIBLE_DEVICES": "MIG-a,MIG-b",
    }
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert done.returncode == 0, done.stderr
    cores, modes, usage, gpus, left = json.loads(done.stdout)
    assert (cores, modes, usage, left) == (1.0, ["0o700", "0o600"], False, False), done.stderr
    assert gpus[0] in ("MIG-a", "MIG-b") and sorted(gpus[1].split(",")) == ["MIG-a", "MIG-b"]
    assert set(short.rglob("*")) == {long, longest}


@pytest.mark.slow
def test_no_token_is_left_in_the_home_folder(short: Path):
    home = short / "home"
    home.mkdir()
    environment = {**os.environ, "TMPDIR": str(short), "HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", SESSION], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == [] and list(short.iterdir()) == [home]


FAILURE = """
import sys
from search_spaces import UserError
from trial_runner.backends.base import make_backend
from trial_runner.backends.ray_session import RaySession, ray_environment
from trial_runner.config.study import ComputeSection
compute = ComputeSection(ray_address=sys.argv[1] or None)
make_backend(compute)
try:
    with ray_environment(compute), RaySession(compute, int(sys.argv[2]), 0):
        pass
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "cores", "said"),
    [
        ("", "-1", "Ray could not be started on this machine: "),
        ("127.0.0.1:1", "1", "cannot reach the Ray cluster at 127.0.0.1:1: "),
        ("no address", "1", "cannot reach the Ray cluster at no address: "),
    ],
)
def test_a_failure_of_ray_is_one_sentence(address: str, cores: str, said: str, short: Path):
    done = subprocess.run(
        [sys.executable, "-c", FAILURE, address, cores],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "TMPDIR": str(short)},
    )
    assert done.stdout.startswith(said) and len(done.stdout.splitlines()) == 1, done.stdout + done.stderr
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert list(short.iterdir()) == []


SLOW_START = """
import os, signal, subprocess, sys, time
import ray
from trial_runner.backends.ray_session import RaySession, ray_environment
from trial_runner.cli import main
from trial_runner.config.study import ComputeSection

def slow(**options):
    service = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", options["_temp_dir"]])
    print(service.pid, flush=True)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    time.sleep(1000)

class Command:
    HELP = ""
    def add_arguments(parser):
        pass
    def run(arguments):
        with ray_environment(ComputeSection()), RaySession(ComputeSection(), 1, 0):
            pass

ray.init, main.COMMANDS["launch"] = slow, Command
sys.exit(main.main(["launch"]))
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_stop_while_ray_starts_does_not_wait_for_it(short: Path, number: str):
    """A start that never ends: its process and its folder are gone when the command ends."""
    done = subprocess.run(
        [sys.executable, "-c", SLOW_START, number],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "TMPDIR": str(short)},
        preexec_fn=default_signals,
    )
    assert done.returncode == 130 and list(short.iterdir()) == [], done.stderr
    assert done.stderr.splitlines() == ["paretoseg: stopped. Nothing is lost; run the same command again to go on."]
    assert start_time(int(done.stdout)) is None


HEAD = """
import ray
from trial_runner.backends.ray_session import RaySession, ray_environment
from trial_runner.config.study import ComputeSection
compute = ComputeSection()
with ray_environment(compute), RaySession(compute, 3, 0) as session:
    print(ray.get_runtime_context().gcs_address, session.folder / "token", flush=True)
    input()
    print(ray.cluster_resources()["CPU"])
"""
MEMBER = """
import os, sys
import ray
from trial_runner.backends.ray_session import RaySession, ray_environment
from trial_runner.config.study import ComputeSection
compute = ComputeSection(ray_address=sys.argv[1])
with ray_environment(compute), RaySession(compute, 1, 0):
    print(ray.cluster_resources()["CPU"])
"""


@pytest.mark.slow
def test_a_cluster_is_joined_with_the_users_token_and_left_running(short: Path):
    environment = {**os.environ, "TMPDIR": str(short)}
    with subprocess.Popen(
        [sys.executable, "-c", HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as head:
        assert head.stdout is not None
        address, token = head.stdout.readline().split()
        member = subprocess.run(
            [sys.executable, "-c", MEMBER, address],
            capture_output=True,
            text=True,
            timeout=200,
            env={**environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token},
        )
        ended, _ = head.communicate("\n", timeout=100)
    assert member.stdout == "3.0\n", member.stderr
    assert ended == "3.0\n" and list(short.iterdir()) == []
