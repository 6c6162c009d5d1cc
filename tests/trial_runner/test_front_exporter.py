from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from exports import read_bundle
from objectives.trial_record import read_study, store_later_facts
from trial_runner.config.load import load_config
from trial_runner.front.exporter import FrontExporter
from trial_runner.front.measurement import measure_front
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
