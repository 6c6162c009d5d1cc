"""Studies as jobs of a real Slurm: two nodes, the end of an allocation, stop; and Slurm's own qsub for the PBS script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from launching import assert_whole, descendants, kill_tree, records
from slurm_cluster import SlurmCluster, slurm as slurm

from objectives.trial_record import TrialRecord
from search_spaces._common.errors import UserError
from trial_runner.backends.ray_session import OBJECT_STORE_BYTES
from trial_runner.cli.main import main
from trial_runner.cluster.batch_systems import Slurm
from trial_runner.cluster.job import free_port
from trial_runner.cluster.status import study_status
from trial_runner.config.load import load_config
from trial_runner.study.job import read_job
from trial_runner.study.paths import StudyPaths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
JOB = "\ncluster: {{kind: {kind}, nodes: {nodes}, cpus_per_node: 2, walltime: '1:00:00'}}\n"


@pytest.fixture(scope="module")
def other_users_ray() -> Iterator[list[int]]:
    """Start a Ray of somebody else on the same machine, in its own folder and on its own port; gives its processes."""
    folder = Path(tempfile.mkdtemp(prefix="other-", dir="/tmp"))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
    own = [f"--temp-dir={folder}", f"--port={free_port('127.0.0.1')}", "--node-ip-address=127.0.0.1"]
    lean = [f"--object-store-memory={OBJECT_STORE_BYTES}", f"--plasma-directory={folder}", "--include-dashboard=false"]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [*command, *own, *lean], stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not any("raylet/raylet " in line for line in descendants(process.pid).values()):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "out").read_text()
            time.sleep(0.5)
        yield [
            process.pid,
            *(pid for pid, line in descendants(process.pid).items() if "raylet/" in line or "gcs/" in line),
        ]
    finally:
        kill_tree(process.pid)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def assert_alive(processes: list[int]) -> None:
    assert len(processes) >= 3, "the command, gcs_server and raylet"
    assert all(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" for pid in processes)


def as_job(path: Path, kind: str = "slurm", nodes: int = 1, cpus_per_trial: int = 1) -> Path:
    """Give a study a job; one trial at a time on each node with ``cpus_per_trial`` 2."""
    text = path.read_text().replace("compute: {", f"compute: {{cpus_per_trial: {cpus_per_trial}, ")
    path.write_text(text + JOB.format(kind=kind, nodes=nodes))
    return path


def wait_for(path: Path, condition: Callable[[list[TrialRecord]], bool], timeout_s: float = 420) -> list[TrialRecord]:
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


def exit_status(path: Path, timeout_s: float = 420) -> int:
    """Wait for the end of a study's job; return the exit status of its launch."""
    paths = StudyPaths(load_config(path).study.output_dir)
    deadline = time.monotonic() + timeout_s
    while (job := read_job(paths.job)) is None or job.exit_status is None:
        logs = "\n".join(log.read_text(errors="replace")[-4000:] for log in sorted(paths.logs.glob("*.*")))
        assert time.monotonic() < deadline, logs
        time.sleep(0.5)
    return job.exit_status


def test_a_study_on_two_nodes_outlives_its_nodes_and_its_time_limit(
    write_study: Callable[..., Path], slurm: SlurmCluster, other_users_ray: list[int]
):
    """Three allocations of one job: the first node fails, the time limit comes, the second node fails."""
    path = as_job(write_study(trials=2, epochs=240, backend="ray"), nodes=2, cpus_per_trial=2)
    config = load_config(path)
    paths = StudyPaths(config.study.output_dir)
    assert main(["launch", str(path), "--detach"]) == 0
    known = wait_for(path, lambda found: any(r.curve for r in found) and list(paths.logs.glob("job-*/n2/ray.log")))
    job = read_job(paths.job)
    assert job is not None and job.nodes == ("n1", "n2") and job.restarts == 0
    private = paths.root / f".job-{job.job_id}"
    assert private.stat().st_mode & 0o777 == 0o700 and (private / "token").stat().st_mode & 0o777 == 0o600
    status = study_status(config)
    assert status.queue is not None and (status.queue.phase, status.queue.nodes) == ("running", "n[1-2]")
    assert status.holder is not None and status.holder.alive and status.running
    with pytest.raises(UserError, match=f"job {job.job_id} of this study is running"):
        main_raising(["launch", str(path), "--detach"])

    slurm.fail("n1")
    wait_for(path, lambda found: queued_again(job.job_id))
    slurm.repair("n1")
    start_now(job.job_id)
    on_both = wait_for(path, lambda found: further(found, known) and any(r.node == "n2" and r.curve for r in found))
    assert_kept(known, on_both)

    subprocess.run(
        ["scancel", "--batch", "--signal=USR1", job.job_id], check=True
    )  # as Slurm does before the time limit
    known = wait_for(path, lambda found: queued_again(job.job_id))
    assert_kept(on_both, known)
    start_now(job.job_id)
    on_both = wait_for(path, lambda found: further(found, known) and any(r.node == "n2" for r in found))
    slurm.fail("n2")
    try:
        assert exit_status(path) == 0
    finally:
        slurm.repair("n2")
    last = read_job(paths.job)
    assert last is not None and (last.job_id, last.restarts) == (job.job_id, 2)
    assert_whole(records(path), trials=2, epochs=240)
    assert_kept(on_both, records(path))
    log = (paths.logs / f"job-{job.job_id}.log").read_text()
    assert "it is queued again" in log and "requeued" in log and "all 2 trials are done" in log
    assert {folder.name for folder in (paths.logs / f"job-{job.job_id}").iterdir()} == {"n1", "n2"}
    assert list((paths.logs / f"job-{job.job_id}" / "n2").glob("raylet.*"))
    assert not list(paths.root.glob(".job-*")), "the token is removed"
    assert_alive(other_users_ray)
    wait_until_gone(str(paths.root))


def further(found: list[TrialRecord], known: list[TrialRecord]) -> bool:
    """True once a trial has a point that it had not before."""
    return len(found) >= len(known) and any(len(found[r.number].curve) > len(r.curve) for r in known)


def assert_kept(known: list[TrialRecord], found: list[TrialRecord]) -> None:
    """No point that the study had is lost or another."""
    for record in known:
        assert found[record.number].candidate == record.candidate
        assert found[record.number].curve[: len(record.curve)] == record.curve


def start_now(job_id: str) -> None:
    """Do not wait for two minutes, as Slurm does; in the second of the requeue the new credential would count as revoked."""
    subprocess.run(["scontrol", "update", f"JobId={job_id}", "StartTime=now+5"], check=True)


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


def test_stop_hands_the_trials_of_a_job_back(write_study: Callable[..., Path], slurm: SlurmCluster):
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
    write_study: Callable[..., Path], slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # this qsub writes its output where it is called
    if shutil.which("qsub") is None:
        pytest.skip("no qsub here; Debian's package is slurm-wlm-torque: make test-deps")
    path = as_job(write_study(trials=2, epochs=1), kind="pbs")
    assert main(["launch", str(path)]) == 0
    assert_whole(records(path), trials=2, epochs=1)
    job = json.loads(StudyPaths(load_config(path).study.output_dir).job.read_text())
    assert (job["system"], job["exit_status"]) == ("pbs", 0)
