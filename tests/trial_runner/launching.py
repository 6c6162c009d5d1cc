"""Launching a study as a user does, in a process of its own, and killing parts of it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from child_signals import default_signals
from optuna.storages import get_storage

from benchmarks.chaos.processes import descendants as descendants, kill as kill, kill_tree
from objectives.trial_record import TrialRecord, read_study
from search_spaces._common.errors import UserError
from trial_runner.config.load import load_config
from trial_runner.study.objectives import open_configured

# A study small enough for a test, to be filled in by `write_study`.
TINY = """
study: {{name: tiny, storage: "sqlite:///study.db", output_dir: out, seed: 3}}
data: {{kind: synthetic, train_images: 12, val_images: 6, image_height_px: 32, image_width_px: 64}}
space:
  name: encoder_decoder
  families: [lcnet, mobilenetv3_small, resnet10t]
  widths: [0.25, 0.5]
  resolutions_px: [[32, 64]]
  prune_ratios: [0.0, 0.5]
  learning_rate: {{low: 0.001, high: 0.01}}
device: {{name: local-cpu, latency_model: {model}, latency_budget_ms: {budget_ms}, measure_front: {measure}}}
training: {{epochs: {epochs}, batch_size: 4}}
search:
  trials: {trials}
  startup_trials: 4
  early_stopping: {{rungs_epochs: {rungs}, reduction_factor: 2.0, min_trials: 2}}
compute: {{backend: {backend}}}
export: {{parity_images: 2}}
"""


def start(study: Path, *arguments: str) -> subprocess.Popen[str]:
    """`paretoseg launch` in a session of its own; its output goes to launch.log beside the YAML."""
    log = study.with_name("launch.log").open("a")
    return subprocess.Popen(
        [sys.executable, "-m", "trial_runner.cli.main", "launch", str(study), *arguments],
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=default_signals,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(study: Path, *arguments: str, timeout_s: float = 240) -> str:
    """Launch and wait for the end; the log. Fails where the exit status is not 0."""
    process = start(study, *arguments)
    try:
        status = process.wait(timeout_s)
    finally:
        kill_tree(process.pid)
    text = study.with_name("launch.log").read_text()
    assert status == 0, text
    return text


def records(study: Path) -> list[TrialRecord]:
    opened = open_configured(load_config(study))
    try:
        return read_study(opened)
    finally:
        # The garbage collector may leave the connections open until the server has none for the launch.
        get_storage(opened._storage)._backend.engine.dispose()  # type: ignore[attr-defined]


def wait_until(
    study: Path, process: subprocess.Popen[str], condition: Callable[[list[TrialRecord]], bool], timeout_s: float = 150
) -> list[TrialRecord]:
    """The study's records as soon as the condition holds. Fails when the process ends or the time is over first."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            now = records(study)
        except (UserError, optuna.exceptions.OptunaError):
            now = []
            gc.collect()  # the connections of a study that could not be opened
        if now and condition(now):
            return now
        assert process.poll() is None, study.with_name("launch.log").read_text()
        time.sleep(0.2)
    raise AssertionError(f"it did not come to that in {timeout_s} s:\n" + study.with_name("launch.log").read_text())


def assert_whole(found: list[TrialRecord], trials: int, epochs: int) -> None:
    """Nothing left running, nothing twice, no hole in a curve, as many trials as were ordered."""
    states = {record.number: record.state for record in found}
    assert set(states.values()) <= {"COMPLETE", "PRUNED"}, states
    assert [record.number for record in found] == list(range(len(found)))
    trained = [record for record in found if record.outcome in ("finished", "stopped")]
    assert len(trained) == trials, {record.number: record.outcome for record in found}
    assert len({record.candidate.id for record in trained if record.candidate}) == trials
    for record in trained:
        last = epochs if record.outcome == "finished" else len(record.curve)
        assert [epoch for epoch, _ in record.curve] == list(range(1, last + 1)), (record.number, record.curve)
        assert record.score is not None and record.score.val_miou == record.curve[-1][1]
