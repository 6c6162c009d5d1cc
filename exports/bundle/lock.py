"""Locks on folders between processes, without lock files."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from search_spaces._common.files import atomic_folder


@contextmanager
def locked_parent(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock on the parent of ``folder`` while ``folder`` is replaced or read.

    On network file systems that cannot lock a directory there is no lock; atomic renames still protect the folder.
    """
    handle = os.open(folder.resolve().parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """`atomic_folder` for concurrent writers of the same ``folder``: one complete result remains.

    Only the final renames are locked, so that contents may be written in parallel.

    Raises:
        UserError: the folder cannot be written.
    """
    with ExitStack() as lock, atomic_folder(folder) as staging:
        yield staging
        lock.enter_context(locked_parent(folder))
