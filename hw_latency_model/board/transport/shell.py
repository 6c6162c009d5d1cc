"""POSIX shell scripts on the board: on this machine, or over a connection that may drop at any time."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces._common.errors import UserError

COMMAND_TIMEOUT_S = 120.0
"""Time limit of a script; a longer one is treated as a dropped connection."""


class ConnectionLost(Exception):
    """Temporary loss of the connection; a retry may succeed. The message is that of the connection."""


@dataclass(frozen=True)
class Answer:
    """Result of a script.

    Attributes:
        code: exit status.
        out: standard output, unchanged.
        err: last lines of standard error.
    """

    code: int
    out: bytes
    err: str


class Shell(ABC):
    """A shell on a board."""

    place: str
    """Name in messages: ``nano@192.168.0.7``."""

    @abstractmethod
    def run(self, script: str, *, stdin: Path | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Run a script with ``sh`` and wait for it.

        Args:
            script: POSIX shell.
            stdin: file for its stdin; empty by default.
            timeout_s: limit in wall seconds.

        Raises:
            ConnectionLost: no answer; a retry may succeed.
            UserError: the connection is refused until the user solves a problem.
        """


class LocalShell(Shell):
    """This machine."""

    place = "this machine"

    def run(self, script: str, *, stdin: Path | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        return run_command(["sh", "-c", script], stdin, timeout_s)


def run_command(command: Sequence[str], stdin: Path | None, timeout_s: float) -> Answer:
    """Run ``command`` in its own session, so that a Ctrl-C does not reach it.

    Raises:
        ConnectionLost: the time limit was reached.
        UserError: the command does not exist.
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
