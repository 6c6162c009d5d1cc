"""Processes of this machine: those below another, those with a mark in their environment, and their ends by number."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

MARK = "PARETOSEG_CHAOS"
"""Environment variable that the processes of a launch inherit, even where their parent has died."""


def descendants(pid: int) -> dict[int, str]:
    """Return the living processes below ``pid``, with their command lines."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in _folders():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            names[int(folder.name)] = _command(folder)
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(folder.name)] = int(fields[1])
    found: dict[int, str] = {}
    grown = True
    while grown:
        new = {p: names[p] for p, parent in parents.items() if p not in found and (parent == pid or parent in found)}
        found.update(new)
        grown = bool(new)
    return found


def marked(prefix: str) -> dict[int, str]:
    """Return the living processes whose mark begins with ``prefix``, with their command lines."""
    wanted = f"{MARK}={prefix}".encode()
    found = {}
    for folder in _folders():
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            command = _command(folder)
        except OSError:
            continue  # ended, or of another user
        if command and any(variable.startswith(wanted) for variable in variables):
            found[int(folder.name)] = command
    return found


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process; nothing where it has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kill_tree(pid: int) -> None:
    """Send SIGKILL to a process and all below it, by number."""
    below = descendants(pid)
    kill(pid)
    for child in below:
        kill(child)


def _folders() -> Iterator[Path]:
    return Path("/proc").glob("[0-9]*")


def _command(folder: Path) -> str:
    """Return the command line of a process; empty for one that has ended and was not waited for."""
    return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
