"""A real Slurm of two nodes on this machine for the tests that ask for it: own key, own ports, own folder, ended by pid."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.processes import kill, kill_tree

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
_UP_S = 60.0
NODES = ("n1", "n2")

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
PropagateResourceLimits=NONE
KillWait=20
SlurmctldTimeout=300
SlurmdTimeout=300
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 CoresPerSocket=2 RealMemory=4000 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 CoresPerSocket=2 RealMemory=4000 Gres=gpu:1
PartitionName=work Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """Slurm of two nodes, whose nodes a test may fail.

    Args:
        folder: its files.
        start: starts a daemon, to be ended with the others.
    """

    def __init__(self, folder: Path, start: Callable[..., None]) -> None:
        self._folder, self._start = folder, start

    def fail(self, node: str) -> None:
        """End a node without a word, as a power cut does: its slurmd and every process of the jobs on it, by number.

        Slurm is told that the node is down; by itself it would notice after ``SlurmdTimeout``.
        """
        kill(int((self._folder / f"slurmd.{node}.pid").read_text()))
        while steps := self._steps(node):
            for pid in steps:
                kill_tree(pid)
        subprocess.run(["scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=power"], check=True)

    def repair(self, node: str) -> None:
        """Start a node that failed anew, as after a reboot."""
        self._start("slurmd", "-D", "-N", node)
        subprocess.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], check=True)
        _wait(lambda: not {"down", "drained"} & set(_states(node)), self._folder)

    def _steps(self, node: str) -> set[int]:
        """Slurm's processes that hold the steps of jobs on a node: parents of those whose environment names it."""
        wanted = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self._folder}/slurm.conf".encode()}
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if wanted <= set((entry / "environ").read_bytes().split(b"\0")):
                    found.add(int((entry / "stat").read_text().rpartition(")")[2].split()[1]))
            except OSError:
                continue  # ended meanwhile
        return {pid for pid in found if pid > 1 and Path(f"/proc/{pid}/comm").read_text().strip() == "slurmstepd"}


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """Start Slurm with the nodes n1 and n2, one GPU (/dev/null) each; ``SLURM_CONF`` names it."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
    missing = [name for name in _PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(
            f"no {missing[0]} here; Debian's packages are slurmctld, slurmd, slurm-client, munge: make test-deps"
        )
    if os.geteuid() != 0:
        pytest.skip("slurmd runs jobs of several users, so it must be started by root")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)
    before = dict(os.environ)
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / "daemons.log").open("ab") as log:
            found = shutil.which(command[0], path=path)
            assert found is not None
            processes.append(subprocess.Popen([found, *command[1:]], stdout=log, stderr=log, start_new_session=True))

    try:
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        (folder / "slurm.conf").write_text(_CONFIGURATION.format(host=_host(), folder=folder, ports=_free_ports(3)))
        (folder / "gres.conf").write_text("".join(f"NodeName=n{n} Name=gpu File=/dev/null Count=1\n" for n in (1, 2)))
        os.environ.update({"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path})
        files = {
            name: f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("pid-file", "log-file", "seed-file")
        }
        start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.sock", *files.values()
        )
        _wait(lambda: (folder / "munge.sock").exists(), folder)
        start("slurmctld", "-D", "-c")
        for node in NODES:
            start("slurmd", "-D", "-N", node)
        _wait(lambda: _idle() == set(NODES), folder)
        yield SlurmCluster(folder, start)
    finally:
        _end_jobs()
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(processes):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def _end_jobs() -> None:
    """Cancel the jobs of this Slurm and wait for their ends; its daemons would leave their processes behind."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        listed = subprocess.run(
            ["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=False
        ).stdout.split()
        if not listed:
            return
        subprocess.run(["scancel", *listed], check=False)
        time.sleep(1)


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _idle() -> set[str]:
    found = subprocess.run(["sinfo", "-h", "-N", "-t", "idle", "-o", "%N"], capture_output=True, text=True, check=False)
    return set(found.stdout.split())


def _states(node: str) -> list[str]:
    found = subprocess.run(["sinfo", "-h", "-N", "-n", node, "-o", "%T"], capture_output=True, text=True, check=False)
    return [word.strip("*~#") for word in found.stdout.split()]


def _wait(condition: object, folder: Path) -> None:
    assert callable(condition)
    deadline = time.monotonic() + _UP_S
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
            pytest.fail(f"Slurm did not start in {_UP_S:.0f} s:\n{logs}")
        time.sleep(0.3)
