"""Time limit for the answers of a database server: one that is stopped, or cut off without a word, would be waited for without end.

The server's own time limits do not count while it is stopped, and its machine still acknowledges what it is sent, so that TCP's do not
count either.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Engine, event
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import CreateEnginePlugin

PLUGIN = "paretoseg_answers"
"""Name of the engine plugin `AnswerLimit`, for ``create_engine(plugins=[PLUGIN])``."""
ANSWER_S = 20.0
"""Seconds that a server may take for an answer."""
IDLE_S = 30.0
"""Seconds after which the server ends a transaction whose client says nothing: one that is gone would keep its locks for hours."""
_POLL_S = 0.5
_ON_CURSOR = ("do_execute", "do_executemany", "do_execute_no_params")
_ON_CONNECTION = ("do_commit", "do_rollback", "do_ping")


class AnswerLimit(CreateEnginePlugin):
    """Engine plugin that cuts a connection whose server has not answered for `ANSWER_S`.

    The access then fails as one whose connection is lost. Connecting has a limit of its own, ``connect_timeout``.
    """

    def update_url(self, url: URL) -> URL:
        """Return the URL as it is: the plugin has no options there."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Limit each access of an engine, for drivers whose connections have a file number."""
        dialect: Any = engine.dialect
        for name in _ON_CURSOR:
            setattr(dialect, name, _limited(dialect, name, lambda cursor: cursor.connection))
        for name in _ON_CONNECTION:
            setattr(dialect, name, _limited(dialect, name, lambda connection: connection))
        event.listen(engine, "connect", _limit_idle_transactions)


plugins.register(PLUGIN, __name__, AnswerLimit.__name__)


def _limit_idle_transactions(connection: Any, record: object) -> None:
    with _watch.limit(connection.fileno()), connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_S * 1000:.0f}")
    connection.commit()


def _limited(dialect: Any, name: str, connection_of: Callable[[Any], Any]) -> Callable[..., Any]:
    access = getattr(dialect, name)

    def call(target: Any, *arguments: Any, **options: Any) -> Any:
        with _watch.limit(connection_of(target).fileno()) as wait:
            try:
                return access(target, *arguments, **options)
            except dialect.loaded_dbapi.Error:
                if not wait.cut:
                    raise
        raise dialect.loaded_dbapi.OperationalError(f"the server has not answered for {ANSWER_S:g} s")

    return call


class _Wait:
    """One access that waits for its server: a socket of the same connection, and the end of the time for it."""

    def __init__(self, file_number: int) -> None:
        self.socket = socket.socket(fileno=os.dup(file_number))
        self.end_s = time.monotonic() + ANSWER_S
        self.cut = False


class _AnswerWatch:
    """Thread that cuts the connections of accesses whose time is over, started with the first access."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waits: set[_Wait] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, file_number: int) -> Iterator[_Wait]:
        """Watch a connection for the time of the block."""
        wait = _Wait(file_number)
        with self._changed:
            self._waits.add(wait)
            if self._thread is None:
                self._thread = threading.Thread(target=self._cut_overdue, name="database-answers", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield wait
        finally:
            with self._changed:
                self._waits.discard(wait)
            wait.socket.close()

    def _cut_overdue(self) -> None:
        while True:
            with self._changed:
                while not self._waits:
                    self._changed.wait()
                for wait in self._waits:
                    if time.monotonic() >= wait.end_s and not wait.cut:
                        wait.cut = True
                        try:
                            wait.socket.shutdown(socket.SHUT_RDWR)
                        except OSError:
                            continue  # the server has ended it meanwhile
            time.sleep(_POLL_S)


_watch = _AnswerWatch()
