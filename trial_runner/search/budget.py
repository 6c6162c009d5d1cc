"""What a start of a study may still spend: trials, and time, of which a share is kept for final trainings."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from objectives.trial_record import TrialRecord
from trial_runner.config.study import SearchSection
from trial_runner.search.training_time import training_seconds

_TOO_LONG_IN_A_ROW = 8


class StudyBudget:
    """The budget of ``search``. Its clock starts when it is made; without a time budget there is always time."""

    def __init__(self, search: SearchSection) -> None:
        self._search = search
        budget_s = 60 * search.time_budget_minutes if search.time_budget_minutes else math.inf
        kept = search.final_training.time_share if search.final_training.members else 0.0
        self._deadline = time.monotonic() + budget_s
        self._search_deadline = time.monotonic() + budget_s * (1 - kept)
        self._too_long = 0

    @property
    def left_s(self) -> float:
        """Seconds to the end of the launch."""
        return self._deadline - time.monotonic()

    @property
    def search_left_s(self) -> float:
        """Seconds to the end of the search, which final trainings follow."""
        return self._search_deadline - time.monotonic()

    def spent(self, trials: int) -> str | None:
        """Why no trial is to follow so many; None where one may."""
        if self._too_long >= _TOO_LONG_IN_A_ROW or self.search_left_s < 0:
            return f"the time budget of {self._search.time_budget_minutes:g} minutes is spent"
        return f"all {self._search.trials} trials are done" if trials >= self._search.trials else None

    def too_long(self, alike: Iterable[TrialRecord], latency_ms: float, epochs: int) -> str | None:
        """Why a network of this latency is not trained, or None: the time left is too short to train it to its end, so that it
        would be stopped, and teach nothing. When that holds of several in a row, the time is spent.

        Args:
            alike: trials that tell how long an epoch takes.
        """
        left_s, needed_s = self.search_left_s, training_seconds(alike, latency_ms, epochs)
        if needed_s is None or needed_s <= left_s:
            self._too_long = 0
            return None
        self._too_long += 1
        return (
            f"its training would take about {needed_s:.0f} s, and {max(left_s, 0.0):.0f} s of the time budget are left"
        )
