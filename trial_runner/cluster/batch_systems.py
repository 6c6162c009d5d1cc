"""Slurm and PBS: directives, submission, queue state, and the start of a program on a node of a job."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from search_spaces._common.errors import UserError
from trial_runner.config.cluster import ClusterSection

_COMMAND_S = 60.0
_PBS_NAME = 15  # characters of a name, the first a letter, in every version
_PBS_STATES = {
    **dict.fromkeys("QHWT", "pending"),
    **dict.fromkeys("RBESU", "running"),
    **dict.fromkeys("CFX", "ended"),
}
_SLURM_PENDING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_SLURM_RUNNING = {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}


@dataclass(frozen=True)
class QueueState:
    """State of a job in its queue.

    Attributes:
        phase: ``pending``, ``running`` or ``ended``.
        word: the batch system's own word.
        reason: why it does not run, or an empty text.
        nodes: what it runs on, in the batch system's notation; empty while it waits.
    """

    phase: str
    word: str
    reason: str = ""
    nodes: str = ""


@dataclass(frozen=True)
class Allocation:
    """Job that this process runs in.

    Attributes:
        job_id: the batch system's id of it.
        nodes: names of its nodes; this process runs on the first.
        restarts: number of earlier allocations of the same job.
    """

    job_id: str
    nodes: tuple[str, ...]
    restarts: int = 0


class BatchSystem(Protocol):
    """Commands and notation of a batch system."""

    name: str

    def directives(self, cluster: ClusterSection, job_name: str, logs: Path) -> list[str]:
        """Lines at the head of a job script that order its resources."""

    def interactive(self, cluster: ClusterSection, job_name: str) -> str:
        """Command line that opens a shell on the same resources."""

    def submit(self, script: Path, restarts: int = 0) -> str:
        """Submit a script; return the job's id."""

    def state(self, job_id: str) -> QueueState | None:
        """State of a job; None where the queue does not know it, or no longer."""

    def ask_to_end(self, job_id: str) -> None:
        """Send SIGTERM to the job's script alone, which ends the study in an orderly way."""

    def cancel(self, job_id: str) -> None:
        """Remove a job from its queue, and end its processes."""

    def allocation(self) -> Allocation | None:
        """Allocation that this process runs in, or None."""

    def run_again(self, allocation: Allocation, script: Path) -> str:
        """Queue the job again, from within it; return the id of the job that goes on."""

    def lost_script(self, allocation: Allocation) -> bool:
        """Return True where the job's first node, which its script ran on, has failed and the job keeps its others, this one among them."""

    def start_on(self, position: int, node: str, command: Sequence[str], cluster: ClusterSection) -> list[str]:
        """Command line that runs a command on the node at a position of the allocation."""


class Slurm:
    """Slurm 20.11 or newer."""

    name = "slurm"

    def directives(self, cluster: ClusterSection, job_name: str, logs: Path) -> list[str]:
        output = str(logs).replace("%", "%%")
        ordered = [
            *self._resources(cluster, job_name),
            f"--output={shlex.quote(output + '/slurm-%j.out')}",
            "--open-mode=append",
            f"--signal=B:USR1@{cluster.stop_before_end_s}",
            "--requeue",
            "--no-kill",
            *cluster.directives,
        ]
        return [f"#SBATCH {text}" for text in ordered]

    def interactive(self, cluster: ClusterSection, job_name: str) -> str:
        return " ".join(["salloc", *self._resources(cluster, job_name), *cluster.directives])

    def _resources(self, cluster: ClusterSection, job_name: str) -> list[str]:
        model = f"{cluster.gpu_model}:" if cluster.gpu_model else ""
        return [
            f"--job-name={job_name}",
            f"--nodes={cluster.nodes}",
            "--ntasks-per-node=1",
            *([f"--cpus-per-task={cluster.cpus_per_node}"] if cluster.cpus_per_node else []),
            *([f"--gpus-per-node={model}{cluster.gpus_per_node}"] if cluster.gpus_per_node else []),
            *([f"--mem={cluster.memory_per_node_gb}G"] if cluster.memory_per_node_gb else []),
            f"--time={cluster.walltime}",
            *([f"--partition={cluster.queue}"] if cluster.queue else []),
            *([f"--account={cluster.account}"] if cluster.account else []),
        ]

    def submit(self, script: Path, restarts: int = 0) -> str:
        return _run(["sbatch", "--parsable", str(script)]).strip().splitlines()[-1].partition(";")[0]

    def state(self, job_id: str) -> QueueState | None:
        try:
            line = _run(["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T|%r|%N"]).strip()
        except CommandFailed:
            return None
        if not line:
            return None
        word, reason, nodes = line.splitlines()[0].split("|", 2)
        pending, running = word in _SLURM_PENDING, word in _SLURM_RUNNING
        phase = "pending" if pending else "running" if running else "ended"
        return QueueState(phase, word.lower(), "" if reason == "None" else reason, nodes)

    def ask_to_end(self, job_id: str) -> None:
        _run(["scancel", "--batch", "--signal=TERM", job_id])

    def cancel(self, job_id: str) -> None:
        _run(["scancel", job_id])

    def allocation(self) -> Allocation | None:
        job_id = os.environ.get("SLURM_JOB_ID")
        if not job_id:
            return None
        listed = os.environ.get("SLURM_JOB_NODELIST", "")
        nodes = _hostnames(listed) if listed else [socket.gethostname()]
        return Allocation(job_id, tuple(nodes), int(os.environ.get("SLURM_RESTART_COUNT", 0)))

    def run_again(self, allocation: Allocation, script: Path) -> str:
        _run(["scontrol", "requeue", allocation.job_id])
        return allocation.job_id

    def lost_script(self, allocation: Allocation) -> bool:
        """Return True where Slurm, which with ``--no-kill`` takes a failed node out of a job, has taken the first one."""
        state = self.state(allocation.job_id)
        if state is None or state.word != "running":  # a job that ends loses its nodes one by one
            return False
        kept = _hostnames(state.nodes)
        return allocation.nodes[0] not in kept and os.environ.get("SLURMD_NODENAME") in kept

    def start_on(self, position: int, node: str, command: Sequence[str], cluster: ClusterSection) -> list[str]:
        share = [
            *([f"--cpus-per-task={cluster.cpus_per_node}"] if cluster.cpus_per_node else []),
            *([f"--gpus-per-node={cluster.gpus_per_node}"] if cluster.gpus_per_node else []),
        ]
        placed = ["--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={node}", "--unbuffered"]
        return ["srun", *placed, *share, *command]


class Pbs:
    """PBS Professional and OpenPBS; also Slurm's own ``qsub`` (slurm-wlm-torque), on one node."""

    name = "pbs"

    def directives(self, cluster: ClusterSection, job_name: str, logs: Path) -> list[str]:
        ordered = [
            *self._resources(cluster, job_name),
            "-j oe",
            f"-o {shlex.quote(f'{logs}/')}",
            "-r y",
            *cluster.directives,
        ]
        return [f"#PBS {text}" for text in ordered]

    def interactive(self, cluster: ClusterSection, job_name: str) -> str:
        return " ".join(["qsub", "-I", *self._resources(cluster, job_name), *cluster.directives])

    def _resources(self, cluster: ClusterSection, job_name: str) -> list[str]:
        chunk = [
            str(cluster.nodes),
            *([f"ncpus={cluster.cpus_per_node}"] if cluster.cpus_per_node else []),
            "mpiprocs=1",
            *([f"ngpus={cluster.gpus_per_node}"] if cluster.gpus_per_node else []),
            *([f"mem={cluster.memory_per_node_gb}gb"] if cluster.memory_per_node_gb else []),
            *([f"gpu_model={cluster.gpu_model}"] if cluster.gpu_model else []),
        ]
        hours, seconds = divmod(cluster.walltime_s, 3600)
        return [
            f"-N {(job_name if job_name[0].isalpha() else f's{job_name}')[:_PBS_NAME]}",
            f"-l select={':'.join(chunk)}",
            *(["-l place=scatter"] if cluster.nodes > 1 else []),
            f"-l walltime={hours}:{seconds // 60:02d}:{seconds % 60:02d}",
            *([f"-q {cluster.queue}"] if cluster.queue else []),
            *([f"-A {cluster.account}"] if cluster.account else []),
        ]

    def submit(self, script: Path, restarts: int = 0) -> str:
        counted = ["-v", f"PARETOSEG_RESTARTS={restarts}"] if restarts else []
        return _run(["qsub", *counted, str(script)]).strip().splitlines()[-1]

    def state(self, job_id: str) -> QueueState | None:
        try:
            facts = qstat_facts(_run(["qstat", "-f", job_id]))
        except CommandFailed:
            return None
        letter = facts.get("job_state", "")
        if not letter:
            return None
        return QueueState(
            _PBS_STATES.get(letter[0], "running"), letter, facts.get("comment", ""), facts.get("exec_host", "")
        )

    def ask_to_end(self, job_id: str) -> None:
        _run(["qsig", "-s", "SIGTERM", job_id])

    def cancel(self, job_id: str) -> None:
        _run(["qdel", job_id])

    def allocation(self) -> Allocation | None:
        job_id = os.environ.get("PBS_JOBID") or os.environ.get("SLURM_JOB_ID")  # Slurm's qsub sets only the latter
        if not job_id:
            return None
        listed = os.environ.get("PBS_NODEFILE")
        names = Path(listed).read_text().split() if listed else [socket.gethostname()]
        return Allocation(job_id, tuple(dict.fromkeys(names)), int(os.environ.get("PARETOSEG_RESTARTS", 0)))

    def run_again(self, allocation: Allocation, script: Path) -> str:
        return self.submit(script, allocation.restarts + 1)

    def lost_script(self, allocation: Allocation) -> bool:
        """Return False: PBS queues a job whose first node has failed again by itself."""
        return False

    def start_on(self, position: int, node: str, command: Sequence[str], cluster: ClusterSection) -> list[str]:
        prepared = " && ".join([*cluster.setup, f"exec {shlex.join(command)}"])
        if position == 0:
            return ["bash", "-c", f"exec {shlex.join(command)}"]
        if shutil.which("pbsdsh"):
            return ["pbsdsh", "-n", str(position), "--", "bash", "-lc", prepared]
        return ["ssh", "-tt", "-o", "BatchMode=yes", node, shlex.join(["bash", "-lc", prepared])]


BATCH_SYSTEMS: Mapping[str, BatchSystem] = {system.name: system for system in (Slurm(), Pbs())}


def _hostnames(listed: str) -> list[str]:
    """Names of nodes in Slurm's notation ``n[1-2]``, in their order."""
    return _run(["scontrol", "show", "hostnames", listed]).split()


class CommandFailed(UserError):
    """A command of the batch system reported an error."""


def _run(command: list[str]) -> str:
    """Run a command of the batch system; return its output.

    Raises:
        CommandFailed: it reports an error, or does not answer.
        UserError: there is no such command here.
    """
    own = {"SLURM_CONF", "SLURM_JOB_ID", "SLURM_CLUSTERS"}
    keep = command[0] in ("scontrol", "squeue", "scancel")
    environment = {k: v for k, v in os.environ.items() if keep or k in own or not k.startswith("SLURM_")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S, env=environment, check=False)
    except FileNotFoundError:
        raise UserError(
            f"there is no {command[0]} on this machine. Run the command on a login node of the cluster; --dry-run shows the job anywhere."
        ) from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{command[0]} did not answer within {_COMMAND_S:.0f} s. Try again.") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CommandFailed(f"{shlex.join(command)} failed: {said[0] if said else f'status {done.returncode}'}.")
    return done.stdout


def qstat_facts(text: str) -> dict[str, str]:
    """Attributes of the first job in the output of ``qstat -f``; a line that begins with a tab and has no `` = `` continues the last."""
    facts: dict[str, str] = {}
    name = ""
    for line in text.splitlines()[1:]:
        found = re.match(r"^\s+([\w.-]+) = (.*)$", line)
        if found:
            name = found[1]
            facts[name] = found[2].strip()
        elif not line.strip():
            break
        elif name:
            facts[name] += line.strip()
    return facts
