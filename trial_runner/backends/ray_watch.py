"""Watch over the Ray cluster of a launch: its death is noticed within seconds, where Ray itself waits for a minute and ends the process."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_POLL_S = 1.0
_CONNECT_S = 3.0
_MISSES = 3
_SERVICES = frozenset({"raylet", "gcs_server"})


class ClusterWatch:
    """Thread that calls ``on_death`` once the cluster has died.

    Of a cluster of this process it watches the processes, of another one the raylet of this host and the address of its control
    service (GCS).

    Args:
        address: ``compute.ray_address``; None for a cluster that this process started.
        raylet_socket: of the raylet that this process is connected to; None where there is none on this host.
        on_death: called with the part that died, in the watch's thread.
    """

    def __init__(self, address: str | None, raylet_socket: str | None, on_death: Callable[[str], None]) -> None:
        self._listener = listener(address)
        self._own = address is None
        self._services = _children() if self._own else _raylets(raylet_socket)
        self._on_death = on_death
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def end_services(self) -> None:
        """End what is left of a cluster of this process, which would wait for its dead part for a minute."""
        for pid in self._services if self._own else ():
            if _alive(pid):
                os.kill(pid, signal.SIGKILL)

    def _watch(self) -> None:
        misses = 0
        while not self._stop.wait(_POLL_S):
            dead = [name for pid, name in self._services.items() if not _alive(pid)]
            if dead:
                self._on_death(dead[0])
                return
            misses = 0 if self._listener is None or listens(self._listener) else misses + 1
            if misses >= _MISSES:
                self._on_death("control service")
                return


def end_processes_of(folder: Path) -> None:
    """End the processes below this one whose command line names its session folder."""
    name = os.fsencode(folder)
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    for pid in [pid for pid in pids if any(name in word for word in _command(pid)) and _is_below(pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # ended with its parent


def _is_below(pid: int) -> bool:
    parent = _stat(pid)[1]
    return parent == str(os.getpid()) or (parent not in ("", "0") and _is_below(int(parent)))


def listener(address: str | None) -> tuple[str, int] | None:
    """Return host and port of an address ``HOST:PORT``; None for another form."""
    found = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d{1,5})", address or "")
    return (found[1], int(found[2])) if found else None


def listens(address: tuple[str, int]) -> bool:
    """Return True where a program answers at an address within three seconds."""
    try:
        socket.create_connection(address, timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


def _children() -> dict[int, str]:
    """Return Ray's services among the children of this process: their numbers and names."""
    return {pid: name for pid, name in _services() if _stat(pid)[1] == str(os.getpid())}


def _raylets(socket_name: str | None) -> dict[int, str]:
    """Return the raylet of this host that listens at a socket."""
    wanted = f"--raylet_socket_name={socket_name}".encode()
    return {pid: name for pid, name in _services() if wanted in _command(pid)}


def _services() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text().strip()
        except OSError:
            continue  # ended meanwhile
        if name in _SERVICES:
            yield int(folder.name), name


def _command(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _alive(pid: int) -> bool:
    """Return True for a child of this process that has not ended; one that has ended keeps its number until it is waited for."""
    return _stat(pid)[0] not in "ZX"


def _stat(pid: int) -> list[str]:
    """Return the state of a process, the number of its parent, …; X, dead, for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", ""]
