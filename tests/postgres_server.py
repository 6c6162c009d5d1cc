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
from pathlib import Path

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


def _unprivileged() -> dict[str, object]:
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Host and port of a server that lives as long as the tests, with the user tester."""
    binaries, user = _binaries(), _unprivileged()
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        for path in (folder, folder / "password"):
            if user:
                os.chown(path, user["user"], user["group"])
        initdb = [binaries / "initdb", "-D", folder / "data", "-U", "tester", "-A", "scram-sha-256", "--no-sync"]
        subprocess.run(
            [*initdb, "--pwfile", folder / "password", "-E", "UTF8", "--locale=C"],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=120,
            **user,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}", "fsync=off"]
        flags = [part for option in options for part in ("-c", option)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", folder / "data", *flags], stdout=log, stderr=log, cwd=folder, **user
            )
        try:
            _wait(f"postgresql+psycopg2://tester:{ESCAPED}@127.0.0.1:{port}/postgres", process, folder / "log")
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


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
def postgres_url(postgres: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of an empty database."""
    name = f"db{abs(hash(request.node.name))}"
    engine = create_engine(f"postgresql+psycopg2://tester:{ESCAPED}@{postgres}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"postgresql://tester:{ESCAPED}@{postgres}/{name}"
