"""The study's job itself, on the first node of its allocation: Ray on every node, the launch, and its going on after the time limit.

Run by the job script as ``python -m trial_runner.cluster.job``. Shortly before the time limit (SIGUSR1 by Slurm, a clock under PBS, or
SIGTERM so late) it ends the launch, which hands its trials back with their checkpoints, and queues the job again. SIGTERM before that
ends the study's job for good. On one node the launch starts Ray itself, for itself alone.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from search_spaces._common.errors import UserError
from trial_runner.backends.ray_session import cluster_environment
from trial_runner.backends.ray_watch import listens
from trial_runner.cluster.batch_systems import BATCH_SYSTEMS, Allocation
from trial_runner.cluster.submit import log_of
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.study.job import JOB_VARIABLE, Job, write_job
from trial_runner.study.lease import LEASE_S
from trial_runner.study.lease_holder import lease_holder
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths

_POLL_S = 0.5
_HEAD_S = 120.0
_NODE_END_S = 10.0
_RETRY_NODE_S = 60.0
_STOPPED = 130


class StudyJob:
    """One allocation of a study's job.

    Args:
        launch: arguments of `paretoseg launch`, without ``--cluster``.
    """

    def __init__(self, config: StudyConfig, allocation: Allocation, launch: Sequence[str]) -> None:
        self._config, self._allocation, self._launch = config, allocation, list(launch)
        self._system = BATCH_SYSTEMS[config.cluster.kind]
        self._paths = StudyPaths(config.study.output_dir)
        self._job = Job(self._system.name, allocation.job_id, allocation.nodes, allocation.restarts)
        self._private = self._paths.root / f".job-{allocation.job_id}"
        self._end_s = time.monotonic() + config.cluster.walltime_s - config.cluster.stop_before_end_s
        self._kill_s = self._end_s + 0.7 * config.cluster.stop_before_end_s
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._retry_s: dict[int, float] = {}
        self._address: str | None = None
        self._time_over = False
        self._stop = False

    def run(self) -> int:
        """Run the launch to its end or to the time limit; return its exit status."""
        signal.signal(signal.SIGUSR1, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        write_job(self._paths.job, self._job)
        try:
            if len(self._allocation.nodes) > 1:
                self._start_nodes()
            status = self._launch_status()
        finally:
            self._end_nodes()
        if self._time_over and status == _STOPPED:
            return self._run_again()
        write_job(self._paths.job, replace(self._job, exit_status=status))
        return status

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        late = time.monotonic() >= self._end_s - self._config.cluster.stop_before_end_s
        if number == signal.SIGUSR1 or late:
            self._time_over = True
        self._stop = True

    # -- nodes

    def _start_nodes(self) -> None:
        self._private.mkdir(mode=0o700, parents=True, exist_ok=True)
        token = self._private / "token"
        token.unlink(missing_ok=True)
        (self._private / "ended").unlink(missing_ok=True)
        with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        host = own_address(self._allocation.nodes[1])
        port = free_port(host)
        self._address = f"{host}:{port}"
        self._start_node(0)
        deadline = time.monotonic() + _HEAD_S
        while not listens((host, port)):
            if self._stop:
                return
            if self._nodes[0].poll() is not None or time.monotonic() > deadline:
                raise UserError(
                    f"Ray did not start on {self._allocation.nodes[0]}. Read {self._node_logs}/*/ray.log, put it right, and launch again."
                )
            time.sleep(_POLL_S)
        for position in range(1, len(self._allocation.nodes)):
            self._start_node(position)

    @property
    def _node_logs(self) -> Path:
        return self._paths.logs / f"job-{self._allocation.job_id.partition('.')[0]}"

    def _start_node(self, position: int) -> None:
        cluster, node = self._config.cluster, self._allocation.nodes[position]
        command = [
            *(sys.executable, "-m", "trial_runner.cluster.node"),
            *(f"--system={self._system.name}", f"--address={self._address}"),
            *(f"--token={self._private / 'token'}", f"--logs={self._node_logs}"),
            *(["--head"] if position == 0 else []),
            *([f"--cpus={cluster.cpus_per_node}"] if cluster.cpus_per_node else []),
            f"--gpus={cluster.gpus_per_node}",
        ]
        line = self._system.start_on(position, node, command, cluster)
        _say(f"starting Ray on {node}")
        self._nodes[position] = subprocess.Popen(line, stdin=subprocess.DEVNULL, start_new_session=True)

    def _mend_nodes(self) -> None:
        """Start a node anew a minute after it ended: it may have been restarted. The head is not: the launch ends with it."""
        now = time.monotonic()
        for position, process in self._nodes.items():
            if (
                position
                and process.poll() is not None
                and now >= self._retry_s.setdefault(position, now + _RETRY_NODE_S)
            ):
                del self._retry_s[position]
                self._start_node(position)

    def _end_nodes(self) -> None:
        """End Ray on every node, the head last, and remove the token."""
        if not self._nodes:
            return
        (self._private / "ended").touch()
        deadline = time.monotonic() + _NODE_END_S
        while time.monotonic() < deadline and any(process.poll() is None for process in self._nodes.values()):
            time.sleep(_POLL_S)
        for process in [self._nodes[position] for position in sorted(self._nodes, reverse=True)]:
            if process.poll() is None:
                process.terminate()
        for process in self._nodes.values():
            try:
                process.wait(_NODE_END_S / 2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._private, ignore_errors=True)

    # -- launch

    def _wait_for_lease(self) -> None:
        """Wait until the lease of a driver that was killed with the last allocation has expired."""
        try:
            study = open_configured(self._config)
        except UserError:  # there is none yet, or the launch explains what is wrong
            return
        deadline = time.monotonic() + LEASE_S + 5
        while not self._stop and time.monotonic() < deadline:
            holder = lease_holder(study)
            if holder is None or not holder.alive:
                return
            time.sleep(_POLL_S)

    def _launch_status(self) -> int:
        self._wait_for_lease()
        if self._stop:
            return _STOPPED
        environment = dict(os.environ)
        where = "local"
        if self._address is not None:
            environment, where = cluster_environment(self._private / "token"), self._address
        environment[JOB_VARIABLE] = json.dumps(self._job.to_dict())
        command = [sys.executable, "-m", "trial_runner.cli.main", "launch", *self._launch, "--cluster", where]
        driver = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
        told = False
        while (status := driver.poll()) is None:
            if time.monotonic() >= self._end_s:
                self._time_over = self._stop = True
            if time.monotonic() >= self._kill_s:
                driver.kill()
                self._time_over = True
                driver.wait()
                return _STOPPED
            if self._stop and not told:
                told = True
                _say("the job ends; the study hands its trials back")
                driver.terminate()
            if not told:
                self._mend_nodes()
            time.sleep(_POLL_S)
        return status

    def _run_again(self) -> int:
        """Queue the job again after its time limit; return the exit status of this allocation."""
        if self._allocation.restarts >= self._config.cluster.restarts:
            _say(
                f"the job has been queued again {self._allocation.restarts} times, as often as cluster.restarts allows. "
                "The study is kept; launch it again to go on."
            )
            write_job(self._paths.job, replace(self._job, exit_status=_STOPPED))
            return _STOPPED
        _say("the time limit of the job is near; it is queued again")
        job_id = self._system.run_again(self._allocation, self._paths.job_script)
        if job_id != self._allocation.job_id:
            write_job(self._paths.job, Job(self._system.name, job_id, restarts=self._allocation.restarts + 1))
        return 0


def _say(line: str) -> None:
    """Print a line into the job's log at once, between those of the launch."""
    sys.stdout.write(f"paretoseg: {line}\n")
    sys.stdout.flush()


def own_address(other: str) -> str:
    """Address of this machine by which another node, given by name, reaches it."""
    for target in (other, "8.8.8.8"):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 53))  # sends nothing: it only chooses the interface
                address = str(probe.getsockname()[0])
        except OSError:
            continue
        if not address.startswith("127."):
            return address
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def free_port(host: str) -> int:
    """Port of this machine that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job's program; return the launch's exit status."""
    parser = argparse.ArgumentParser(prog="trial_runner.cluster.job", description="Run a study in this job.")
    parser.add_argument("study", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.study, arguments.overrides)
        system = BATCH_SYSTEMS.get(config.cluster.kind)
        allocation = system.allocation() if system else None
        if allocation is None:
            raise UserError(
                "this program runs in a job: start it with `paretoseg launch STUDY.yaml --cluster slurm`, or pbs."
            )
        paths = StudyPaths(config.study.output_dir)
        paths.logs.mkdir(parents=True, exist_ok=True)
        with log_of(paths, allocation.job_id).open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        launch = [str(arguments.study), *(word for text in arguments.overrides for word in ("--set", text))]
        return StudyJob(config, allocation, launch).run()
    except UserError as error:
        _say(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
