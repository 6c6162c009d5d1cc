"""Fence of a study's folder: a worker whose driver has lost the study to another one writes no checkpoint."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from search_spaces._common.errors import UserError
from search_spaces._common.files import write_error

_FILE = ".driver"
_WAIT_S = 20.0
_POLL_S = 0.05


@dataclass(frozen=True)
class WriteFence:
    """Right of one driver's workers to write below a study's folder.

    Attributes:
        folder: the study's, which every node sees.
        driver: token and id of the driver's lease.
    """

    folder: Path
    driver: str

    def claim(self, require_held: Callable[[], None]) -> None:
        """Give the right to this driver, and take it from all others.

        Args:
            require_held: raises where another driver holds the study by now.

        Raises:
            UserError: the folder cannot be written, or a worker of another driver is stopped in the middle of writing.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(fcntl.LOCK_EX):
                require_held()
                temporary = self.folder / f"{_FILE}.new"
                temporary.write_text(self.driver)
                temporary.replace(self.folder / _FILE)
        except OSError as error:
            raise write_error(self.folder / _FILE, error) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the right while a finished file is renamed into place.

        Raises:
            UserError: another driver has the right.
        """
        with self._locked(fcntl.LOCK_SH):
            try:
                owner = (self.folder / _FILE).read_text()
            except FileNotFoundError:
                owner = self.driver  # removed with the folder's other files: nobody has claimed it since
            if owner != self.driver:
                raise UserError(
                    f"another driver has taken the study in {self.folder} over, so this worker writes no checkpoint. "
                    "Its own driver was stopped, suspended, or cut off from the database."
                )
            yield

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Lock the folder; on file systems that cannot lock a folder there is no lock, and a moment between check and rename."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            end = time.monotonic() + _WAIT_S
            while not _lock(handle, kind):
                if time.monotonic() > end:
                    raise UserError(
                        f"the folder {self.folder} is locked by a process that is stopped in the middle of writing. "
                        f"Find it with `fuser {self.folder}` on its host; continue or end it, then run the same command again."
                    )
                time.sleep(_POLL_S)
            yield
        finally:
            os.close(handle)


def _lock(handle: int, kind: int) -> bool:
    """Try to lock; False while another process holds the lock, True also where the file system has no locks."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EINTR)
    return True
