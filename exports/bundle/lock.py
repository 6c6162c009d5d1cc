"""One writer of a folder at a time, also among processes, without leaving a lock file behind."""

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
    """Hold a lock on the folder that contains ``folder``, while ``folder`` itself is replaced or read.

    Some network file systems cannot lock a directory; the work then goes on, protected by atomic renames alone.
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
    """``atomic_folder`` that several processes may use on the same ``folder``: one complete result stays.

    Only the final renames are locked, so that the content may be made in parallel.

    Raises:
        UserError: the folder cannot be written.
    """
    with ExitStack() as lock, atomic_folder(folder) as staging:
        yield staging
        lock.enter_context(locked_parent(folder))
