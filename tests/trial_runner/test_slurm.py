"""Studies as jobs of a real Slurm: two nodes, the end of an allocation, stop; and Slurm's own qsub for the PBS script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from launching import assert_whole, descendants, records
from slurm_cluster import slurm as slurm

from objectives.trial_record import TrialRecord
from search_spaces._common.errors import UserError
from trial_runner.cli.main import main
from trial_runner.cluster.batch_systems import Slurm
from trial_runner.cluster.status import study_status
from trial_runner.config.load import load_config
from trial_runner.study.job import read_job
from trial_runner.study.paths import StudyPaths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
JOB = "\ncluster: {{kind: {kind}, nodes: {nodes}, cpus_per_node: 2, walltime: '1:00:00'}}\n"


@pytest.fixture
def other_users_ray() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like somebody's Ray, as `ray stop` finds it."""
    process = subprocess.Popen(["bash", "-c", "exec -a /opt/ray/core/src/ray/raylet/raylet sleep 1800"])
    yield process
    process.kill()
    process.wait()


def as_job(path: Path, kind: str = "slurm", nodes: int = 1, cpus_per_trial: int = 1) -> Path:
    """Give a study a job; one trial at a time on each node with ``cpus_per_trial`` 2."""
    text = path.read_text().replace("compute: {", f"compute: {{cpus_per_trial: {cpus_per_trial}, ")
    path.write_text(text + JOB.format(kind=kind, nodes=nodes))
    return path


def wait_for(path: Path, condition: Callable[[list[TrialRecord]], bool], timeout_s: float = 700) -> list[TrialRecord]:
    """Wait until the condition holds for the study's records, and return them; fail with the logs of the job when it has ended before."""
    paths = StudyPaths(load_config(path).study.output_dir)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            now = records(path)
        except (UserError, optuna.exceptions.OptunaError):
            now = []
        if condition(now):
            return now
        job = read_job(paths.job)
        logs = "\n".join(log.read_text(errors="replace")[-4000:] for log in sorted(paths.logs.glob("*.*")))
        assert job is None or job.exit_status is None, f"the job ended with {job}:\n{logs}"
        assert time.monotonic() < deadline, logs
        time.sleep(0.5)


def exit_status(path: Path, timeout_s: float = 700) -> int:
    """Wait for the end of a study's job; return the exit status of its launch."""
    paths = StudyPaths(load_config(path).study.output_dir)
    deadline = time.monotonic() + timeout_s
    while (job := read_job(paths.job)) is None or job.exit_status is None:
        logs = "\n".join(log.read_text(errors="replace")[-4000:] for log in sorted(paths.logs.glob("*.*")))
        assert time.monotonic() < deadline, logs
        time.sleep(0.5)
    return job.exit_status


def test_a_study_on_two_nodes_goes_on_in_a_new_allocation(
    write_study: Callable[..., Path], slurm: Path, other_users_ray: subprocess.Popen[bytes]
):
    path = as_job(write_study(trials=2, epochs=120, backend="ray"), nodes=2, cpus_per_trial=2)
    config = load_config(path)
    paths = StudyPaths(config.study.output_dir)
    assert main(["launch", str(path), "--detach"]) == 0
    wait_for(path, lambda found: any(record.node == "n2" for record in found) and any(r.curve for r in found))
    job = read_job(paths.job)
    assert job is not None and job.nodes == ("n1", "n2") and job.restarts == 0
    private = paths.root / f".job-{job.job_id}"
    assert private.stat().st_mode & 0o777 == 0o700 and (private / "token").stat().st_mode & 0o777 == 0o600
    status = study_status(config)
    assert status.queue is not None and (status.queue.phase, status.queue.nodes) == ("running", "n[1-2]")
    assert status.holder is not None and status.holder.alive and status.running
    with pytest.raises(UserError, match=f"job {job.job_id} of this study is running"):
        main_raising(["launch", str(path), "--detach"])

    subprocess.run(
        ["scancel", "--batch", "--signal=USR1", job.job_id], check=True
    )  # as Slurm does before the time limit
    wait_for(path, lambda found: queued_again(job.job_id))
    # Slurm waits two minutes. A start in the second of the requeue would be refused: the new credential counts as revoked.
    subprocess.run(["scontrol", "update", f"JobId={job.job_id}", "StartTime=now+5"], check=True)
    assert exit_status(path) == 0
    last = read_job(paths.job)
    assert last is not None and (last.job_id, last.restarts) == (job.job_id, 1)
    assert_whole(records(path), trials=2, epochs=120)
    log = (paths.logs / f"job-{job.job_id}.log").read_text()
    assert "it is queued again" in log and "requeued" in log and "all 2 trials are done" in log
    assert {folder.name for folder in (paths.logs / f"job-{job.job_id}").iterdir()} == {"n1", "n2"}
    assert list((paths.logs / f"job-{job.job_id}" / "n2").glob("raylet.*"))
    assert not list(paths.root.glob(".job-*")), "the token is removed"
    assert other_users_ray.poll() is None
    wait_until_gone(str(paths.root))


def queued_again(job_id: str) -> bool:
    """True once a job waits for its next allocation."""
    state = Slurm().state(job_id)
    return state is not None and state.phase == "pending"


def main_raising(arguments: list[str]) -> None:
    """Run a command; raise its message as a UserError instead of printing it."""
    from trial_runner.cli import main as commands

    parsed = commands.build_parser().parse_args(arguments)
    commands.COMMANDS[parsed.command].run(parsed)


def wait_until_gone(word: str, timeout_s: float = 60) -> None:
    """Wait until no process of the job is left: those whose command line names the study's folder."""
    deadline = time.monotonic() + timeout_s
    while left := {pid: line for pid, line in descendants(1).items() if word in line and pid != os.getpid()}:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def test_stop_hands_the_trials_of_a_job_back(write_study: Callable[..., Path], slurm: Path):
    path = as_job(write_study(trials=2, epochs=400))
    assert main(["launch", str(path), "--detach"]) == 0
    wait_for(path, lambda found: any(record.curve for record in found))
    assert main(["stop", str(path)]) == 0
    job = read_job(StudyPaths(load_config(path).study.output_dir).job)
    assert job is not None and job.exit_status == 130
    assert {record.state for record in records(path)} == {"WAITING"}
    state = Slurm().state(job.job_id)
    assert state is None or state.phase == "ended"
    assert study_status(load_config(path)).holder is None


def test_the_script_for_pbs_runs_under_slurms_own_qsub(
    write_study: Callable[..., Path], slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # this qsub writes its output where it is called
    if shutil.which("qsub") is None:
        pytest.skip("no qsub here; Debian's package is slurm-wlm-torque: make test-deps")
    path = as_job(write_study(trials=2, epochs=1), kind="pbs")
    assert main(["launch", str(path)]) == 0
    assert_whole(records(path), trials=2, epochs=1)
    job = json.loads(StudyPaths(load_config(path).study.output_dir).job.read_text())
    assert (job["system"], job["exit_status"]) == ("pbs", 0)
