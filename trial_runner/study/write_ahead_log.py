"""SQLite's write-ahead log for the time of a launch, where the file system allows it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import optuna
from sqlalchemy.engine import make_url

from objectives.optuna_private import close_connections

_MOUNTS = Path("/proc/self/mountinfo")
_SHARED = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "vboxsf"})
"""File systems that machines share. The log's index is shared memory, which only processes of one machine can share."""
_WAIT_S = 2.0


@contextmanager
def write_ahead_log(url: str, study: optuna.Study, say: Callable[[str], None]) -> Iterator[None]:
    """Keep a study's SQLite database in WAL mode in the block: those who read it and the launch do not wait for each other.

    After the block it is one file again, unless another process has it open. A database server is left as it is.

    Args:
        url: of the study's storage.
        study: its connections are closed at the end of the block.
        say: called with a sentence where the file system does not allow the log.
    """
    path = sqlite_file(url)
    if path is None:
        yield
        return
    refusal = no_log_here(url)
    if refusal is not None:
        say(refusal)
        yield
        return
    if _set_journal(path, "wal") != "wal":
        say(f"SQLite cannot keep a write-ahead log of {path}: those who read it and the launch wait for each other.")
    try:
        yield
    finally:
        close_connections(study)
        _set_journal(path, "delete")


def no_log_here(url: str) -> str | None:
    """Return a sentence if the file system of a SQLite database does not allow the log, else None."""
    path = sqlite_file(url)
    shared = shared_file_system(path) if path is not None else None
    if shared is None:
        return None
    return (
        f"the study's database {path} is on {shared}, where SQLite's write-ahead log is not safe: those who read it and the launch "
        "wait for each other. A local disk or PostgreSQL as study.storage avoids it."
    )


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite URL; None for other databases and for one in memory."""
    parsed = make_url(url)
    name = parsed.database
    if parsed.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def shared_file_system(path: Path) -> str | None:
    """Return the type of the file system of a path if several machines may share it, else None."""
    resolved, found = path.resolve(), ("", "")
    try:
        mounts = _MOUNTS.read_text().splitlines()
    except OSError:
        return None
    for line in mounts:
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        if resolved.is_relative_to(point) and len(point) >= len(found[0]):
            found = point, after.split()[0]
    kind = found[1]
    return kind if kind in _SHARED or kind.startswith("fuse.") else None


def _set_journal(path: Path, mode: str) -> str | None:
    """Set a database's journal mode; return the mode that it has then, None where another process prevents it from changing."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=_WAIT_S)) as connection:
        return str(connection.execute(f"PRAGMA journal_mode={mode}").fetchone()[0])
    return None
