"""State of a study after processes were killed. Real processes, real SIGKILLs, a real Ray on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import launching
import pytest

from hw_latency_model.agent.cores import available_cores
from objectives.trial_record import TrialRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
EPOCHS = 6
TRIALS = 3


@pytest.fixture
def study(write_study: Callable[..., Path]) -> Path:
    return write_study(trials=TRIALS, epochs=EPOCHS, backend="ray")


def halfway(records: list[TrialRecord]) -> bool:
    return any(record.state == "RUNNING" and 1 <= len(record.curve) < EPOCHS - 1 for record in records)


def slow_down(study: Path) -> None:
    """More images, so that there is a middle in which to kill."""
    study.write_text(study.read_text().replace("train_images: 12", "train_images: 240"))


def test_a_killed_worker_is_replaced_and_its_trial_goes_on_from_its_checkpoint(study: Path):
    slow_down(study)
    process = launching.start(study)
    try:
        launching.wait_until(study, process, halfway)
        workers = [
            pid for pid, name in launching.descendants(process.pid).items() if name.startswith("ray::ImplicitFunc")
        ]
        assert workers
        for pid in workers:
            launching.kill(pid)
        assert process.wait(300) == 0, study.with_name("launch.log").read_text()
    finally:
        launching.kill_tree(process.pid)
    launching.assert_whole(launching.records(study), TRIALS, EPOCHS)


KILLED_WHILE_IDLE = """
import os, sys, time
from pathlib import Path
from benchmarks.chaos.processes import descendants, kill
from trial_runner.config.load import load_config
from trial_runner.launch import launch
from trial_runner.search.driver import StudyDriver

finish = StudyDriver.finish

def finish_and_kill(self, number, failure=None):
    finish(self, number, failure)
    workers = [pid for pid, name in descendants(os.getpid()).items() if name.startswith("ray::ImplicitFunc")]
    for pid in workers:
        kill(pid)
    while set(workers) & set(descendants(os.getpid())):
        time.sleep(0.05)
    print("killed", len(workers))

StudyDriver.finish = finish_and_kill
launch(load_config(Path(sys.argv[1])), print)
"""


def test_a_worker_that_dies_between_two_trials_fails_neither(write_study: Callable[..., Path]):
    """One slot, so that the next trial gets the worker that has just been killed."""
    study = write_study(trials=TRIALS, epochs=1, backend="ray")
    compute = f"backend: ray, max_failures: 0, cpus_per_trial: {available_cores()}"
    study.write_text(study.read_text().replace("backend: ray", compute))
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_IDLE, study],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0 and "killed 1" in done.stdout, done.stdout + done.stderr
    launching.assert_whole(launching.records(study), TRIALS, 1)


def test_when_ray_itself_dies_the_launch_does_not_hang_and_the_next_one_goes_on(study: Path):
    slow_down(study)
    process = launching.start(study)
    try:
        launching.wait_until(study, process, halfway)
        raylets = [pid for pid, name in launching.descendants(process.pid).items() if "raylet/raylet " in name]
        assert raylets
        for pid in raylets:
            launching.kill(pid)
        status = process.wait(120)  # 0 where its actors had done their work before anybody noticed
    finally:
        launching.kill_tree(process.pid)
    text = study.with_name("launch.log").read_text()
    assert status == 0 or (status == 2 and "Ray's own processes on this machine have died" in text), (status, text)
    launching.finish(study)
    launching.assert_whole(launching.records(study), TRIALS, EPOCHS)


def test_after_a_killed_driver_the_next_launch_adopts_its_trials(study: Path):
    slow_down(study)
    process = launching.start(study)
    below = {}
    try:
        before = launching.wait_until(study, process, halfway)
        below = launching.descendants(process.pid)
        launching.kill(process.pid)
        process.wait(10)
    finally:
        launching.kill_tree(process.pid)
    log = launching.finish(study)
    for pid in below:
        launching.kill(pid)
    after = launching.records(study)
    launching.assert_whole(after, TRIALS, EPOCHS)
    for record in before:
        assert after[record.number].candidate == record.candidate, log
        assert after[record.number].curve[: len(record.curve)] == record.curve


def test_after_everything_was_killed_the_next_launch_goes_on(study: Path):
    slow_down(study)
    process = launching.start(study)
    try:
        before = launching.wait_until(study, process, halfway)
    finally:
        launching.kill_tree(process.pid)
        process.wait(10)
    launching.finish(study)
    after = launching.records(study)
    launching.assert_whole(after, TRIALS, EPOCHS)
    assert after[0].curve[: len(before[0].curve)] == before[0].curve


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_ends_within_seconds_and_leaves_nothing_running(study: Path, stop_signal: signal.Signals):
    slow_down(study)
    process = launching.start(study)
    try:
        launching.wait_until(study, process, halfway)
        below = launching.descendants(process.pid)
        if stop_signal == signal.SIGINT:
            os.killpg(process.pid, stop_signal)  # what a terminal does
        else:
            process.send_signal(stop_signal)
        assert process.wait(30) == 130, study.with_name("launch.log").read_text()
    finally:
        launching.kill_tree(process.pid)
    text = study.with_name("launch.log").read_text()
    assert "Nothing is lost" in text and "Traceback" not in text
    assert not [record for record in launching.records(study) if record.state == "RUNNING"]
    deadline = time.monotonic() + 20
    while left := [name for pid, name in below.items() if Path(f"/proc/{pid}").exists() and "ray" in name]:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
    launching.finish(study)
    launching.assert_whole(launching.records(study), TRIALS, EPOCHS)


def test_a_second_driver_is_kept_off_a_running_study(study: Path):
    slow_down(study)
    process = launching.start(study)
    try:
        launching.wait_until(study, process, halfway)
        second = launching.start(study)
        assert second.wait(120) == 2
    finally:
        launching.kill_tree(process.pid)
    assert "is being driven by process" in study.with_name("launch.log").read_text()
