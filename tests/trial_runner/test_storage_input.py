"""A study's database that is another one, damaged or locked: each cause has its own sentence, none with a password."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dashboards.web import make_server
from search_spaces._common.errors import UserError
from trial_runner.study import sqlite_connection
from trial_runner.study.sqlite_connection import WaitingConnection
from trial_runner.study.storage import StorageError, StudyNotFoundError, open_study


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "study.db"
    open_study(f"sqlite:///{path}", "mine", create=True)
    return path


def refusal(url: str, *, create: bool = False) -> str:
    with pytest.raises(StorageError) as caught:
        open_study(url, "mine", create=create)
    return str(caught.value)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    ("schema", "writer", "said"),
    [
        ("v2.6.0.a", "2.6.0", "optuna storage upgrade --storage sqlite:///"),
        ("v9", "9.1.0", "Use the environment that wrote it"),
    ],
)
def test_the_schema_of_another_optuna_is_named_with_the_step(
    database: Path, schema: str, writer: str, said: str, create: bool
):
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [schema])
        connection.execute("UPDATE version_info SET library_version = ?", [writer])
    connection.close()
    message = refusal(f"sqlite:///{database}", create=create)
    assert f"was written by Optuna {writer}" in message and said in message


@pytest.mark.parametrize("create", [False, True])
def test_a_damaged_file_is_called_damaged(database: Path, create: bool):
    content = bytearray(database.read_bytes())
    content[4096 : 4096 * 12] = b"\x5a" * (4096 * 11)
    database.write_bytes(content)
    assert "The file is damaged" in refusal(f"sqlite:///{database}", create=create)


@pytest.mark.parametrize("create", [False, True])
def test_a_file_of_another_kind_is_no_database(tmp_path: Path, create: bool):
    path = tmp_path / "notes.txt"
    path.write_text("just words " * 1000)
    message = refusal(f"sqlite:///{path}", create=create)
    assert "The file is no SQLite database" in message and path.read_text() == "just words " * 1000
    assert "which is no file" in refusal(f"sqlite:///{tmp_path}", create=create)


def test_a_database_without_studies_holds_none(tmp_path: Path):
    (tmp_path / "empty.db").touch()
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE things (name TEXT)")
    connection.close()
    for name in ("empty.db", "other.db"):
        with pytest.raises(StudyNotFoundError, match="holds no study"):
            open_study(f"sqlite:///{tmp_path / name}", "mine", create=False)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://me:s3cret@host/db", "pip install pymysql, and write mysql+pymysql://"),
        ("oracle://me:s3cret@host/db", "Install the driver of oracle"),
        ("postgresql+psycopg2://me:s3cret@127.0.0.1:1/db", "Connection refused. Check that the server runs"),
        ("postgresql+psycopg2://me@127.0.0.1:1/db?password=s3cret", "Connection refused"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named_by_its_cause(url: str, said: str):
    message = refusal(url)
    assert said in message and "s3cret" not in message


def test_the_dashboard_refuses_the_same_urls(tmp_path: Path):
    for url in ("postgres://me:s3cret@h/db", "postgresql://me:s3/cret@h:port/db", "sqlite://study.db"):
        with pytest.raises(UserError, match="cannot be opened") as caught:
            make_server(url, tmp_path, "127.0.0.1", 0)
        assert "s3cr" not in str(caught.value) and "s3/cr" not in str(caught.value)


HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
"""


def test_a_locked_database_is_waited_for_and_its_holder_named(
    database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(sqlite_connection, "FIRST_REPORT_S", 0.5)
    with subprocess.Popen([sys.executable, "-c", HOLD, database, "3"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
        started = time.monotonic()
        with caplog.at_level(logging.WARNING, "paretoseg"):
            connection = sqlite3.connect(database, timeout=0.5, factory=WaitingConnection)
            connection.execute("CREATE TABLE mine (name TEXT)")
            connection.commit()
        assert time.monotonic() - started > 1
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1 and f"probably by process {holder.pid}" in messages[0] and str(database) in messages[0]
    connection.close()


def test_a_lock_that_is_never_given_free_ends_in_an_error(database: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite_connection, "FIRST_REPORT_S", 0.2)
    monkeypatch.setattr(sqlite_connection, "GIVE_UP_S", 0.5)
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    waiting = sqlite3.connect(database, timeout=0.2, factory=WaitingConnection)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        waiting.execute("CREATE TABLE mine (name TEXT)")
    waiting.close()
    holder.close()


def test_a_study_waits_for_its_lock(database: Path, caplog: pytest.LogCaptureFixture):
    copy = shutil.copy(database, database.with_name("copy.db"))
    study = open_study(f"sqlite:///{copy}", "mine", create=False)
    connection = study._storage._backend.engine.raw_connection()  # type: ignore[attr-defined]
    assert isinstance(connection.driver_connection, WaitingConnection)
    connection.close()
