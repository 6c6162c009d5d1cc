"""Running a POSIX shell script where the board is: here, or behind a connection that may drop at any time."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces._common.errors import UserError

COMMAND_TIMEOUT_S = 120.0
"""A script that takes longer is taken for a dead connection; nothing that is run here does."""


class ConnectionLost(Exception):
    """The board could not be asked just now; asking again may well work. The message is the connection's own."""


@dataclass(frozen=True)
class Answer:
    """What a script said.

    Attributes:
        code: its exit status.
        out: standard output, bytes as they came.
        err: last lines of standard error.
    """

    code: int
    out: bytes
    err: str


class Shell(ABC):
    """A place where scripts run."""

    place: str
    """How messages call it: ``nano@192.168.0.7``."""

    @abstractmethod
    def run(self, script: str, *, stdin: Path | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Run a script of ``sh`` and wait for it.

        Args:
            script: POSIX shell.
            stdin: a file that it reads; nothing by default.
            timeout_s: wall seconds.

        Raises:
            ConnectionLost: the place did not answer; trying again may help.
            UserError: the place will not answer before something is put right.
        """


class LocalShell(Shell):
    """This machine."""

    place = "this machine"

    def run(self, script: str, *, stdin: Path | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        return run_command(["sh", "-c", script], stdin, timeout_s)


def run_command(command: Sequence[str], stdin: Path | None, timeout_s: float) -> Answer:
    """Run ``command`` in its own session, so that a Ctrl-C here does not reach it.

    Raises:
        ConnectionLost: it ran into the time limit.
        UserError: there is no such command.
    """
    try:
        with (stdin or Path("/dev/null")).open("rb") as source:
            done = subprocess.run(
                list(command), stdin=source, capture_output=True, timeout=timeout_s, check=False, start_new_session=True
            )
    except FileNotFoundError as error:
        raise UserError(
            f"there is no command {command[0]!r} on this machine. Install it (package openssh-client)."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ConnectionLost(f"no answer within {timeout_s:.0f} s") from error
    return Answer(done.returncode, done.stdout, done.stderr.decode(errors="replace").strip()[-2000:])
