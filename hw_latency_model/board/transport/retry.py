"""Retries after a dropped connection, with exponential backoff."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from hw_latency_model.board.transport.shell import ConnectionLost
from search_spaces._common.errors import UserError

T = TypeVar("T")


class RetryPolicy:
    """Retry policy for the requests to one board.

    The first request is not retried: an address that never answered is most likely wrong.

    Args:
        place: name of the board in messages.
        say: called with a line when the connection drops and when it is re-established.
        first_pause_s, longest_pause_s: seconds between tries; each pause is twice the previous one.
        give_up_s: seconds without an answer after which UserError is raised.
    """

    def __init__(
        self,
        place: str,
        say: Callable[[str], None],
        *,
        first_pause_s: float = 1.0,
        longest_pause_s: float = 60.0,
        give_up_s: float = 1800.0,
    ) -> None:
        self.place = place
        self.drops = 0
        self._say = say
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._give_up_s = give_up_s
        self._met = False

    def __call__(self, ask: Callable[[], T]) -> T:
        """Call ``ask`` until it answers and return the answer.

        Raises:
            UserError: the board never answered, or not within ``give_up_s``.
        """
        pause_s, since = self._first_pause_s, time.monotonic()
        reported = False
        while True:
            try:
                value = ask()
            except ConnectionLost as error:
                if not self._met:
                    raise UserError(
                        f"{self.place} does not answer ({error}). Check that the board is on, its address, and ssh.port."
                    ) from error
                self.drops += not reported
                if time.monotonic() - since > self._give_up_s:
                    raise UserError(
                        f"{self.place} has not answered for {self._give_up_s / 60:.0f} minutes ({error}). What it measured is "
                        "kept there: run the same command again when it is back."
                    ) from error
                if not reported:
                    self._say(f"connection to {self.place} lost ({error}); the board goes on by itself, trying again")
                    reported = True
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, self._longest_pause_s)
            else:
                self._met = True
                if reported:
                    self._say(f"{self.place} answers again")
                return value
