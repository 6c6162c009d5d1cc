"""Program on each node of a job: Ray in a folder of its own, until the job ends; its logs go to the study's folder.

Run as ``python -m trial_runner.cluster.node``. It ends the processes that it started and no other: never ``ray stop``, which signals
every Ray process of the user.

Where the first node has failed, and with it the job's script, another one queues the job again: Slurm would keep its other nodes idle
until the time limit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hw_latency_model.agent.cores import available_cores
from search_spaces._common.machine import node_name
from trial_runner.backends.ray_session import OBJECT_STORE_BYTES, cluster_environment, make_session_folder
from trial_runner.backends.ray_watch import listener, listens
from trial_runner.cluster.batch_systems import BATCH_SYSTEMS, Allocation, BatchSystem, CommandFailed
from trial_runner.stopping import check, stoppable

_POLL_S = 0.5
_HEAD_POLL_S = 10.0
_END_S = 3.0
_KEPT_BYTES = 1_000_000
_KEPT_FILES = 200


def ray_command(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Command line that starts Ray on this node, in ``folder``."""
    cores = arguments.cpus or available_cores()
    where = (
        [
            "--head",
            f"--node-ip-address={arguments.address.rpartition(':')[0]}",
            f"--port={arguments.address.rpartition(':')[2]}",
        ]
        if arguments.head
        else [f"--address={arguments.address}"]
    )
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *where,
        *(["--include-dashboard=false"] if arguments.head else []),
        f"--num-cpus={cores}",
        f"--num-gpus={arguments.gpus}",
        "--dashboard-agent-listen-port=0",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--plasma-directory={folder}",
        f"--temp-dir={folder}",
        "--log-style=record",
        "--log-color=false",
    ]


def gather_logs(folder: Path, target: Path) -> None:
    """Copy the ends of Ray's latest log files on this node to the study's folder."""
    found = [path for path in folder.glob("session_*/logs/*") if path.is_file() and not path.is_symlink()]
    found = [path for path in found if path.parent.parent.name != "session_latest" and path.stat().st_size]
    found.sort(key=lambda path: path.stat().st_mtime)
    target.mkdir(parents=True, exist_ok=True)
    for path in found[-_KEPT_FILES:]:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _KEPT_BYTES, 0))
            (target / path.name).write_bytes(file.read())


class HeadWatch:
    """Watch of a node over the first one of its job, where the job's script and Ray's head run.

    Args:
        address: of the head, ``HOST:PORT``.
    """

    def __init__(self, system: BatchSystem, allocation: Allocation, address: str) -> None:
        self._system, self._allocation, self._listener = system, allocation, listener(address)
        self._next_s, self._away = 0.0, False

    def head_is_away(self) -> bool:
        """Return True while the head does not answer, seen every ten seconds; queue the job again once its script is lost."""
        if self._listener is None or time.monotonic() < self._next_s:
            return self._away
        self._away = not listens(self._listener)
        try:
            if self._away and self._system.lost_script(self._allocation):
                sys.stdout.write(f"paretoseg: {self._allocation.nodes[0]} has failed; the job is queued again\n")
                sys.stdout.flush()
                self._system.run_again(self._allocation, Path())
        except CommandFailed as error:
            sys.stdout.write(f"paretoseg: {error}\n")
        self._next_s = time.monotonic() + _HEAD_POLL_S
        return self._away


def run(arguments: argparse.Namespace) -> int:
    """Run Ray until it ends, a stop signal comes, or the file ``ended`` appears beside the token; return its exit status."""
    watch = _head_watch(arguments)
    folder = make_session_folder()
    inner, logs = folder / "r", arguments.logs / node_name()
    inner.mkdir()
    logs.mkdir(parents=True, exist_ok=True)
    ended = arguments.token.with_name("ended")
    process = None
    try:
        with (logs / "ray.log").open("ab") as log:
            process = subprocess.Popen(
                ray_command(arguments, inner),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=cluster_environment(arguments.token),
                start_new_session=True,
            )
        while not ended.exists():
            away = watch is not None and watch.head_is_away()
            if process.poll() is not None and not away:
                break
            check()
            time.sleep(_POLL_S)
        return process.poll() or 0
    finally:
        if process is not None:
            _end(process)
        gather_logs(inner, logs)
        shutil.rmtree(folder, ignore_errors=True)


def _head_watch(arguments: argparse.Namespace) -> HeadWatch | None:
    """Watch over the first node; None on that node itself, and outside a job."""
    system = BATCH_SYSTEMS.get(arguments.system)
    allocation = None if system is None or arguments.head else system.allocation()
    return None if system is None or allocation is None else HeadWatch(system, allocation, arguments.address)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End Ray: its own process first, which ends those that it started, then what is left of its group."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status, 0 after a stop signal."""
    parser = argparse.ArgumentParser(prog="trial_runner.cluster.node", description="Run Ray on this node of a job.")
    parser.add_argument("--address", required=True, help="HOST:PORT of the head")
    parser.add_argument("--system", help="batch system of the job")
    parser.add_argument("--head", action="store_true", help="this node is the head")
    parser.add_argument("--token", type=Path, required=True, help="file with the cluster's token")
    parser.add_argument("--logs", type=Path, required=True, help="folder that gets a folder of this node's logs")
    parser.add_argument("--cpus", type=int, help="CPUs to use; all that this process may use by default")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs to use")
    arguments = parser.parse_args(argv)
    try:
        with stoppable():
            return run(arguments)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
