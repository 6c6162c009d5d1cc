"""This machine and its processes: names that hold among machines, boots and containers."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def node_name() -> str:
    """Name of this machine in its cluster: the batch system's own name of the node, or the host's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def machine_id() -> str:
    """Return what tells machines, boots and containers of one host name apart; process numbers are valid within it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot; None for a dead or unreadable one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def own_process() -> str:
    """Return this process in words that `has_ended` reads."""
    return f"{machine_id()}\n{os.getpid()}\n{start_time(os.getpid())}"


def has_ended(process: str) -> bool:
    """Return True for a process of this machine that is known to have ended; False for any other text."""
    machine, *numbers = process.split("\n")
    if machine != machine_id() or len(numbers) != 2 or not numbers[0].isdigit():
        return False
    return start_time(int(numbers[0])) != numbers[1]
