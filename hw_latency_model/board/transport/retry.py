"""Asking again after a dropped connection: with growing pauses, for as long as a board may take to come back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from hw_latency_model.board.transport.shell import ConnectionLost
from search_spaces._common.errors import UserError

T = TypeVar("T")


class RetryPolicy:
    """Runs questions to one board.

    The first question of all is asked once: an address that never answered is most likely a wrong one.

    Args:
        place: how messages call the board.
        say: takes a line when the connection drops and when it is back.
        first_pause_s, longest_pause_s: seconds between tries; each pause is twice the last.
        give_up_s: after so long without an answer it ends with a sentence.
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
        """What ``ask`` returns, asked until it answers.

        Raises:
            UserError: the board never answered, or not for ``give_up_s``.
        """
        pause_s, since = self._first_pause_s, time.monotonic()
        told = False
        while True:
            try:
                value = ask()
            except ConnectionLost as error:
                if not self._met:
                    raise UserError(
                        f"{self.place} does not answer ({error}). Check that the board is on, its address, and ssh.port."
                    ) from error
                self.drops += not told
                if time.monotonic() - since > self._give_up_s:
                    raise UserError(
                        f"{self.place} has not answered for {self._give_up_s / 60:.0f} minutes ({error}). What it measured is "
                        "kept there: run the same command again when it is back."
                    ) from error
                if not told:
                    self._say(f"connection to {self.place} lost ({error}); the board goes on by itself, trying again")
                    told = True
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, self._longest_pause_s)
            else:
                self._met = True
                if told:
                    self._say(f"{self.place} answers again")
                return value
