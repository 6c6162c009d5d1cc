"""SQLite connections that wait for a lock and report which process may hold it."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

logger = logging.getLogger("paretoseg")

FIRST_REPORT_S = 5.0
GIVE_UP_S = 600.0
_WAITED_S = 0.5
"""A statement that fails sooner than this part of the timeout was refused without waiting: SQLite has found a deadlock."""

Result = TypeVar("Result")


class WaitingConnection(sqlite3.Connection):
    """Connection whose statements wait up to ``GIVE_UP_S`` for a lock; the wait is reported after ``FIRST_REPORT_S``."""

    def __init__(self, database: str, **options: Any) -> None:
        super().__init__(database, **options)
        self._path = Path(database)

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that waits for locks."""
        return super().cursor(factory or _WaitingCursor)

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Execute a statement with a new cursor; the base class does not use `cursor` for it."""
        cursor: sqlite3.Cursor = self.cursor().execute(*arguments)
        return cursor

    def commit(self) -> None:
        """Commit the transaction; waits for locks."""
        self.wait(super().commit)

    def wait(self, work: Callable[[], Result]) -> Result:
        """Run a statement, again while another process holds a lock.

        Raises:
            sqlite3.OperationalError: the lock was held for ``GIVE_UP_S``, or waiting for it is a deadlock.
        """
        started, reported = time.monotonic(), False
        while True:
            asked = time.monotonic()
            try:
                return work()
            except sqlite3.OperationalError as error:
                waited_s = time.monotonic() - started
                refused = time.monotonic() - asked < _WAITED_S * FIRST_REPORT_S
                if not is_locked(error) or refused or waited_s > GIVE_UP_S:
                    raise
            if not reported:
                logger.warning(
                    "the database %s has been locked for %.0f s, %s; waiting for it",
                    self._path,
                    waited_s,
                    holders(self._path),
                )
                reported = True


class _WaitingCursor(sqlite3.Cursor):
    connection: WaitingConnection

    def execute(self, *arguments: Any) -> _WaitingCursor:
        self.connection.wait(lambda: super(_WaitingCursor, self).execute(*arguments))
        return self

    def executemany(self, *arguments: Any) -> _WaitingCursor:
        self.connection.wait(lambda: super(_WaitingCursor, self).executemany(*arguments))
        return self


def is_locked(error: BaseException | None) -> bool:
    """Return True for SQLite's error that another connection holds a lock."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def holders(path: Path) -> str:
    """Return a phrase on the processes that may hold a lock of a database: those of this machine that have it open."""
    names = {f"{path.resolve()}{suffix}" for suffix in ("", "-journal", "-wal")}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            links = {str(link.readlink()) for link in (process / "fd").iterdir()}
            command = (process / "comm").read_text().strip()
        except OSError:
            continue  # of another user, or ended
        if links & names:
            found.append(f"process {process.name} ({command})")
    if found:
        return f"probably by {', '.join(sorted(found))}"
    return "by a process of another user or machine, or by a tool that has it open"
