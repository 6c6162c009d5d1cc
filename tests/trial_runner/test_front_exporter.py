from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.chaos.processes import kill
from exports import ParityError, read_bundle
from objectives.pareto import pareto_front
from objectives.trial_record import read_study, store_later_facts
from search_spaces._common.machine import start_time
from trial_runner.config.load import load_config
from trial_runner.front.choose import choose
from trial_runner.front.export_job import export_trial
from trial_runner.front.exporter import FrontExporter, export_now
from trial_runner.front.measurement import measure_front
from trial_runner.front.report import write_study_report
from trial_runner.front.table import front_records
from trial_runner.launch import launch
from trial_runner.study.paths import StudyPaths
from trial_runner.study.storage import open_study


@pytest.fixture
def finished(write_study: Callable[..., Path]):
    """A finished study whose bundles are then forgotten: what a launch finds that was killed before it exported."""
    config = load_config(write_study(trials=2))
    launch(config, lambda line: None)
    study = open_study(config.study.storage, config.study.name, create=False)
    for record in read_study(study):
        if record.bundle:
            store_later_facts(study, record.number, bundle=None)
    return config, study, StudyPaths(config.study.output_dir)


def bundles(study) -> list[str]:
    return [record.bundle for record in read_study(study) if record.bundle]


def test_a_front_without_bundles_is_exported_by_the_helper_process(finished):
    config, study, paths = finished
    assert not bundles(study)
    exporter = FrontExporter(config, study, paths)
    try:
        exporter.drain()
    finally:
        exporter.close()
    assert bundles(study) and all(read_bundle(Path(folder)) for folder in bundles(study))


def test_the_helper_process_does_not_run_the_users_script_again(finished, tmp_path: Path, monkeypatch):
    """Scripts and notebooks need no ``if __name__ == "__main__"``."""
    config, study, paths = finished
    assert not bundles(study)
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit('run again')")
    main = ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    exporter = FrontExporter(config, study, paths)
    try:
        exporter.drain()
    finally:
        exporter.close()
    assert bundles(study) and sys.modules["__main__"] is main


def test_a_killed_helper_costs_nothing_but_time(finished):
    config, study, paths = finished
    exporter = FrontExporter(config, study, paths)
    try:
        exporter.consider()
        assert exporter._pool is not None
        for pid in list(exporter._pool._processes):
            os.kill(pid, signal.SIGKILL)
        exporter.drain()
    finally:
        exporter.close()
    assert bundles(study)
    assert not [record for record in read_study(study) if record.export_error]


def test_an_export_that_cannot_be_made_is_noted_and_made_by_the_next_launch(finished):
    config, study, paths = finished
    checkpoints = list(paths.root.glob("trials/*/last.pt"))
    for path in checkpoints:
        path.rename(path.with_suffix(".away"))
    exporter = FrontExporter(config, study, paths, inline=True)
    exporter.drain()
    failed = [record for record in read_study(study) if record.export_error]
    assert failed and "has no usable checkpoint" in failed[0].export_error and not bundles(study)
    for path in checkpoints:
        path.with_suffix(".away").rename(path)
    result = launch(config, lambda line: None)
    assert all(record.bundle and record.export_error is None for record in result.front)


def test_a_device_out_of_reach_is_told_and_ends_no_launch(finished):
    config, study, _ = finished
    elsewhere = config.model_copy(update={"device": config.device.model_copy(update={"name": "jetson-nano"})})
    records = [replace(record, bundle="trial") for record in read_study(study) if record.complete]
    lines: list[str] = []
    assert measure_front(elsewhere, study, records, {}, lines.append) == 0
    (line,) = lines
    assert line.startswith("the front is not measured: jetson-nano cannot be reached from here, its predictions stand")
    assert "paretoseg measure STUDY.yaml --board DEVICE.yaml" in line


def test_where_no_helper_process_can_be_started_the_driver_exports(finished, monkeypatch):
    """A full /dev/shm has no room for the semaphores of a process pool."""
    from trial_runner.front import exporter as module

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "ProcessPoolExecutor", full)
    config, study, paths = finished
    exporter = FrontExporter(config, study, paths)
    exporter.drain()
    exporter.close()
    assert bundles(study) and all(read_bundle(Path(folder)) for folder in bundles(study))


def test_a_network_that_fails_its_parity_is_no_winner_and_the_next_best_is_exported(finished, monkeypatch):
    config, study, paths = finished
    everything = [record for record in read_study(study, paths.root) if record.complete]
    best = max(pareto_front(everything).records, key=lambda record: record.val_miou or 0)

    def export(order):
        if order.spec.number == best.number:
            raise ParityError(
                "in FP16 the network is not the one that was trained: mIoU is 0.5 in torch and 0.4 in FP16"
            )
        return export_trial(order)

    monkeypatch.setattr("trial_runner.front.exporter.export_trial", export)
    exporter = FrontExporter(config, study, paths, inline=True)
    exporter.drain()
    records = read_study(study, paths.root)
    (failed,) = [record for record in records if record.parity_failed]
    assert failed.number == best.number and failed.unfit and failed.bundle is None
    members = front_records(records, 1e9)
    assert members and best.number not in [record.number for record in members]
    assert all(record.bundle for record in members)
    assert choose(records, 1e9).record.number != best.number
    assert "mIoU is 0.5 in torch" in write_study_report(config, study, paths).read_text()
    exporter.close()
    monkeypatch.undo()
    export_now(config, study, failed)
    (again,) = [record for record in read_study(study, paths.root) if record.number == best.number]
    assert not again.unfit and again.bundle


KILLED_DRIVER = """
import os, signal
from trial_runner.front.exporter import helper_pool
pool = helper_pool()
pool.submit(os.getpid)
print(*pool._processes, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_helper_ends_with_a_driver_that_is_killed_while_it_starts():
    """It loads torch for seconds before it can ask the system to end it with its parent."""
    done = subprocess.run([sys.executable, "-c", KILLED_DRIVER], stdout=subprocess.PIPE, text=True, timeout=120)
    helper = int(done.stdout)
    try:
        deadline = time.monotonic() + 100
        while start_time(helper) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        kill(helper)
