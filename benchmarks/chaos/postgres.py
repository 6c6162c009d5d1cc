"""A real PostgreSQL server on loopback, in a folder of its own, which may be stopped, paused, and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from benchmarks.chaos.processes import descendants, kill
from search_spaces._common.errors import UserError

PASSWORD = "s3cret/with@signs"
ESCAPED = "s3cret%2Fwith%40signs"
_TRIES = 300
_TRY_S = 0.1


class NoServerError(UserError):
    """PostgreSQL cannot be run on this machine."""


def _binaries() -> Path:
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), Path(shutil.which("initdb") or "/none").parent]
    for folder in reversed(folders):
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise NoServerError("there is no PostgreSQL server here. Install Debian's package postgresql: make test-deps.")


def _unprivileged() -> dict[str, Any]:
    """Return the arguments that start a process as another user: PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise NoServerError("PostgreSQL cannot be run by root, and there is no user postgres or nobody. Add one of them.")


class Server:
    """A server in a folder of its own, with the user tester.

    Args:
        folder: an empty folder.

    Attributes:
        address: ``HOST:PORT``.

    Raises:
        NoServerError: PostgreSQL cannot be run here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._binaries = folder, _binaries()
        self._user: dict[str, Any] = _unprivileged()
        (folder / "password").write_text(PASSWORD)
        for path in (folder, folder / "password"):
            if self._user:
                os.chown(path, self._user["user"], self._user["group"])
        initdb: list[str | Path] = [self._binaries / "initdb", "-D", folder / "data", "-U", "tester", "--no-sync"]
        subprocess.run(
            [*initdb, "-A", "scram-sha-256", "--pwfile", folder / "password", "-E", "UTF8", "--locale=C"],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=120,
            **self._user,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        port = self.address.rpartition(":")[2]
        options = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={self._folder}", "fsync=off"]
        flags = [part for option in options for part in ("-c", option)]
        with (self._folder / "log").open("a") as log:
            command: list[str | Path] = [self._binaries / "postgres", "-D", self._folder / "data", *flags]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._user)
        _wait(self.url("postgres"), self._process, self._folder / "log")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it; SIGQUIT without a word to its clients, as a crash does."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
            self._process = None

    def pause(self) -> None:
        """Suspend all its processes: connections stay open and nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue after `pause`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        if self._process is not None:
            for pid in (self._process.pid, *descendants(self._process.pid)):
                kill(pid, number)

    def cut_connections(self) -> int:
        """End all connections of clients; return their number."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        try:
            with engine.connect() as connection:
                return len(connection.execute(text(cut)).all())
        finally:
            engine.dispose()

    def create_database(self, name: str) -> str:
        """Make an empty database; return its URL without a driver's name."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name).replace("+psycopg2", "")

    def url(self, name: str) -> str:
        """Return the URL of a database, with its password."""
        return f"postgresql+psycopg2://tester:{ESCAPED}@{self.address}/{name}"


@contextmanager
def running_server() -> Iterator[Server]:
    """Run a server until the end of the block. Raises NoServerError where PostgreSQL cannot be run."""
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        server = Server(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.go_on()
            server.stop()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url)
    for _ in range(_TRIES):
        if process.poll() is not None:
            break
        try:
            engine.connect().close()
        except OperationalError:
            time.sleep(_TRY_S)
        else:
            engine.dispose()
            return
    raise NoServerError(f"PostgreSQL does not start: {log.read_text()[-2000:]}")
