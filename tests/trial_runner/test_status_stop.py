"""`paretoseg status` and `paretoseg stop` on studies that run, wait in a queue, or whose driver died."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from launching import TINY, kill_tree, records, start, wait_until

from trial_runner.cli.main import main
from trial_runner.cluster import batch_systems
from trial_runner.cluster.batch_systems import CommandFailed
from trial_runner.cluster.status import StudyStatus, duration
from trial_runner.config.load import load_config
from trial_runner.launch import launch
from trial_runner.study.job import JOB_VARIABLE, Job, job_of, read_job, write_job
from trial_runner.study.lease_holder import lease_holder
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths

OTHER_HOST = {"host": "elsewhere", "pid": 7, "started": "1"}


class Queue:
    """A stand-in for Slurm's commands with one job; what they are given is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, states: list[str]) -> None:
        self.states, self.commands = states, list[list[str]]()
        monkeypatch.setattr(batch_systems, "_run", self._run)

    def _run(self, command: list[str]) -> str:
        self.commands.append(command)
        if command[0] == "squeue":
            state = self.states[0] if len(self.states) == 1 else self.states.pop(0)
            if not state:
                raise CommandFailed("slurm_load_jobs error: Invalid job id specified")
            return state
        return ""

    def signals(self) -> list[list[str]]:
        return [command for command in self.commands if command[0] == "scancel"]


@pytest.fixture(scope="module")
def launched(latency_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two finished trials."""
    path = tmp_path_factory.mktemp("launched") / "study.yaml"
    settings = {"budget_ms": 1000, "measure": "false", "epochs": 1, "trials": 2, "rungs": [], "backend": "inprocess"}
    path.write_text(TINY.format(model=latency_model_path, **settings))
    launch(load_config(path), lambda line: None)
    return path


@pytest.fixture
def finished_study(launched: Path, tmp_path: Path) -> Path:
    shutil.copytree(launched.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / launched.name


def test_status_of_an_ended_study_and_of_one_whose_driver_is_elsewhere(
    finished_study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = finished_study
    capsys.readouterr()
    assert main(["status", str(path)]) == 0
    text = capsys.readouterr().out
    assert "2 of 2 trials done (2 finished)" in text and "driver: none" in text and "mIoU up to" in text
    config = load_config(path)
    study = open_configured(config)
    study.set_user_attr("driver", {**OTHER_HOST, "until": time.time() + 100})
    trial = study.ask()
    trial.set_user_attr("node", "n2")
    study._storage.set_trial_intermediate_value(trial._trial_id, 3, 0.25)
    write_job(StudyPaths(config.study.output_dir).job, Job("slurm", "17", ("n1", "n2"), restarts=2))
    Queue(monkeypatch, ["RUNNING|None|n[1-2]"])
    assert main(["status", str(path), "--set", "search.trials=5"]) == 0
    text = capsys.readouterr().out
    assert "2 of 5 trials done" in text and "job 17 (slurm): running on n[1-2], 2 times restarted" in text
    assert "driver: process 7 on elsewhere" in text and "trial 2 runs on n2: mIoU 0.250 after epoch 3" in text
    assert "to the end of the search" in text
    assert main(["status", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["running"] == [{"trial": 2, "node": "n2", "curve": [[3, 0.25]]}]
    assert found["job"]["queue"]["phase"] == "running" and found["driver"]["alive"] and len(found["front"]) >= 1
    study.set_user_attr("driver", {**OTHER_HOST, "until": time.time() - 100})
    main(["status", str(path)])
    assert "its lease has expired" in capsys.readouterr().out


def test_status_of_a_job_that_waits_and_of_a_machine_without_the_queue(
    write_study: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    path = write_study()
    assert main(["status", str(path)]) == 2
    assert "there is no study" in capsys.readouterr().err
    write_job(StudyPaths(load_config(path).study.output_dir).job, Job("slurm", "17"))
    with monkeypatch.context() as patch:
        Queue(patch, ["PENDING|Resources|"])
        assert main(["status", str(path)]) == 0
        assert "job 17 (slurm): pending (Resources)" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert main(["status", str(path)]) == 0
    assert "its queue cannot be asked: there is no squeue" in capsys.readouterr().out


def test_the_estimate_counts_what_runs_side_by_side(finished_study: Path):
    path = finished_study
    done = [replace(record, duration_s=100.0) for record in records(path)]
    running = [replace(done[0], number=n, state="RUNNING", outcome=None, duration_s=None) for n in (2, 3)]
    status = StudyStatus(None, None, None, None, 10, [*done, *running], [], [])
    alone = StudyStatus(None, None, None, None, 10, [*done, running[0]], [], [])
    assert status.left_s is not None and alone.left_s is not None and status.left_s == pytest.approx(350)
    assert alone.left_s == pytest.approx(750)
    assert StudyStatus(None, None, None, None, 10, done, [], []).left_s is None
    assert [duration(s) for s in (40, 750, 12_000)] == ["40 s", "12 min", "3 h 20 min"]


def test_stop_cancels_a_waiting_job_by_its_id(
    write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = write_study()
    write_job(StudyPaths(load_config(path).study.output_dir).job, Job("slurm", "17"))
    queue = Queue(monkeypatch, ["PENDING|Resources|", "CANCELLED|None|"])
    assert main(["stop", str(path)]) == 0
    assert queue.signals() == [["scancel", "17"]] and "the study is stopped" in capsys.readouterr().out


def test_stop_lets_a_running_job_hand_its_trials_back_and_frees_the_lease(
    finished_study: Path, monkeypatch: pytest.MonkeyPatch
):
    path = finished_study
    config = load_config(path)
    study = open_configured(config)
    study.set_user_attr("driver", {**OTHER_HOST, "until": time.time() + 100, "token": 4})
    write_job(StudyPaths(config.study.output_dir).job, Job("slurm", "17"))
    queue = Queue(monkeypatch, ["RUNNING|None|n1", "RUNNING|None|n1", "COMPLETED|None|n1"])
    assert main(["stop", str(path)]) == 0
    assert queue.signals() == [["scancel", "--batch", "--signal=TERM", "17"]]
    study = open_configured(config)
    assert lease_holder(study) is None and study.user_attrs["driver"]["token"] == 4


def test_a_job_that_does_not_end_is_cancelled(write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    path = write_study()
    write_job(StudyPaths(load_config(path).study.output_dir).job, Job("slurm", "17"))
    monkeypatch.setattr("trial_runner.cluster.stop._ORDERLY_S", 0.0)
    queue = Queue(monkeypatch, ["RUNNING|None|n1", "RUNNING|None|n1", ""])
    assert main(["stop", str(path)]) == 0
    assert queue.signals() == [["scancel", "--batch", "--signal=TERM", "17"], ["scancel", "17"]]


def test_stop_refuses_a_driver_on_another_machine_and_frees_a_dead_one(
    finished_study: Path, capsys: pytest.CaptureFixture[str]
):
    path = finished_study
    study = open_configured(load_config(path))
    study.set_user_attr("driver", {**OTHER_HOST, "until": time.time() + 100})
    assert main(["stop", str(path)]) == 2
    assert "process 7 on elsewhere" in capsys.readouterr().err and lease_holder(study) is not None
    study.set_user_attr("driver", {**OTHER_HOST, "until": time.time() - 100})
    assert main(["stop", str(path)]) == 0
    assert lease_holder(open_configured(load_config(path))) is None
    assert main(["stop", str(path)]) == 0
    assert "does not run" in capsys.readouterr().out


def test_the_database_names_the_job_of_its_last_driver(finished_study: Path, monkeypatch: pytest.MonkeyPatch):
    job = Job("slurm", "17", ("n1", "n2"))
    monkeypatch.setenv(JOB_VARIABLE, json.dumps(job.to_dict()))
    launch(load_config(finished_study), lambda line: None)
    assert job_of(open_configured(load_config(finished_study))) == job
    monkeypatch.delenv(JOB_VARIABLE)
    launch(load_config(finished_study), lambda line: None)
    assert job_of(open_configured(load_config(finished_study))) is None


def test_a_damaged_job_file_is_no_job(tmp_path: Path):
    (tmp_path / "job.json").write_text('{"system": "slurm", "job_')
    assert read_job(tmp_path / "job.json") is None
    (tmp_path / "job.json").write_text('{"system": "slurm", "job_id": "3", "of_later": 1}')
    assert read_job(tmp_path / "job.json") == Job("slurm", "3")


@pytest.mark.slow
def test_stop_ends_a_launch_in_another_terminal(write_study: Callable[..., Path]):
    path = write_study(trials=3, epochs=60, backend="inprocess")
    process = start(path)
    try:
        wait_until(path, process, lambda found: any(record.curve for record in found))
        assert main(["stop", str(path)]) == 0
        assert process.wait(60) == 130
    finally:
        kill_tree(process.pid)
    assert {record.state for record in records(path)} <= {"WAITING", "COMPLETE"}
    assert lease_holder(open_configured(load_config(path))) is None
