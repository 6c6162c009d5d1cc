"""A real PostgreSQL server on loopback for the tests that ask for it, started by the first and stopped after the last."""

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

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

PASSWORD = "s3cret/with@signs"
ESCAPED = "s3cret%2Fwith%40signs"


def _binaries() -> Path:
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), Path(shutil.which("initdb") or "/none").parent]
    for folder in reversed(folders):
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    pytest.skip("no PostgreSQL server here; Debian's package is called postgresql: make test-deps")


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL cannot be run by root, and there is no user postgres or nobody")


class Server:
    """A server in a folder of its own, with the user tester; it may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._binaries = folder, _binaries()
        self._user: dict[str, Any] = _unprivileged()
        (folder / "password").write_text(PASSWORD)
        for path in (folder, folder / "password"):
            if self._user:
                os.chown(path, self._user["user"], self._user["group"])
        initdb = [self._binaries / "initdb", "-D", folder / "data", "-U", "tester", "-A", "scram-sha-256", "--no-sync"]
        subprocess.run(
            [*initdb, "--pwfile", folder / "password", "-E", "UTF8", "--locale=C"],
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
            command = [self._binaries / "postgres", "-D", self._folder / "data", *flags]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._user)
        _wait(self._url("postgres"), self._process, self._folder / "log")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it; SIGQUIT without a word to its clients, as a crash does."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
            self._process = None

    def create_database(self, name: str) -> str:
        """Make an empty database; its URL."""
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self._url(name).replace("+psycopg2", "")

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg2://tester:{ESCAPED}@{self.address}/{name}"


@contextmanager
def running_server() -> Iterator[Server]:
    """A server that is stopped at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        server = Server(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A server that lives as long as the tests."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Server) -> str:
    """Host and port of the server that lives as long as the tests."""
    return postgres_server.address


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url)
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            engine.connect().close()
        except OperationalError:
            time.sleep(0.1)
        else:
            engine.dispose()
            return
    raise AssertionError(log.read_text())


@pytest.fixture
def postgres_url(postgres_server: Server, request: pytest.FixtureRequest) -> str:
    """URL of an empty database."""
    return postgres_server.create_database(f"db{abs(hash(request.node.name))}")
