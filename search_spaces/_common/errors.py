"""The exception that the command line shows as a message instead of a traceback."""

from __future__ import annotations

from typing import ClassVar

from search_spaces._common.redaction import redact_url


class UserError(Exception):
    """An error that the user can correct: the message states the rule, the value found, and the next step.

    The command line prints the message and exits with ``exit_status``; every other exception is a bug and keeps its traceback. Passwords
    of URLs in the message are replaced by ``***``.
    """

    exit_status: ClassVar[int] = 2
    exit_at_once: ClassVar[bool] = False
    """True where the interpreter's own end would wait for something that is dead: the command line skips it."""

    def __init__(self, message: str) -> None:
        super().__init__(redact_url(message))
