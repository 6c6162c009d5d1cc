"""Budget of a launch: trials and time, of which a share is reserved for final trainings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import numpy as np
from scipy.optimize import nnls

from objectives.trial_record import TrialRecord
from objectives.trial_score import TrialScore
from trial_runner.config.study import SearchSection

OVERHEAD_FACTOR = 1.35
"""Factor on the time of an epoch, for its evaluation, its checkpoint, and the end of the launch."""
_AUTO_SHARES = (0.2, 0.7)
_LEAST_TRAININGS = 3
_TOO_LONG_IN_A_ROW = 8


class StudyBudget:
    """The budget of ``search``. Its clock starts at construction; without a time budget the time is unlimited.

    Args:
        clock: seconds; a simulation passes its own.

    Attributes:
        splits: the share of the final trainings adapts.
    """

    def __init__(self, search: SearchSection, clock: Callable[[], float] = time.monotonic) -> None:
        self._search, self._clock = search, clock
        budget_s = 60 * search.time_budget_minutes if search.time_budget_minutes else math.inf
        share = search.final_training.time_share if search.final_training.members else 0.0
        self.splits = share == "auto" and search.time_budget_minutes is not None
        kept = _AUTO_SHARES[0] if share == "auto" else share
        now = clock()
        self._deadline = now + budget_s
        self._search_deadline = now + budget_s * (1 - kept)
        self._split_from = now + budget_s * (1 - _AUTO_SHARES[1])
        self._too_long = 0

    @property
    def left_s(self) -> float:
        """Seconds to the end of the launch."""
        return self._deadline - self._clock()

    @property
    def search_left_s(self) -> float:
        """Seconds to the end of the search, which final trainings follow."""
        return self._search_deadline - self._clock()

    @property
    def may_end_search(self) -> bool:
        """True where the search may end now so that final trainings get the rest: with ``time_share: auto``, in its range."""
        return self.splits and self._split_from <= self._clock() < self._search_deadline

    def end_search(self) -> None:
        """Give the rest of the time to final trainings."""
        self._search_deadline = self._clock()

    def spent(self, trials: int) -> str | None:
        """Return the reason for ending the search after ``trials`` trials, or None."""
        if self._too_long >= _TOO_LONG_IN_A_ROW or self.search_left_s <= 0:
            return f"the time budget of {self._search.time_budget_minutes:g} minutes is spent"
        return f"all {self._search.trials} trials are done" if trials >= self._search.trials else None

    def too_long(self, alike: Iterable[TrialRecord], latency_ms: float, epochs: int) -> str | None:
        """Return the reason for not training a network of this latency, or None: the time left is too short for all its epochs. After
        several in a row the time budget counts as spent.

        Args:
            alike: trials to estimate the time of an epoch from.
        """
        left_s, needed_s = self.search_left_s, training_seconds(alike, latency_ms, epochs)
        if needed_s is None or needed_s <= left_s:
            self._too_long = 0
            return None
        self._too_long += 1
        return (
            f"its training would take about {needed_s:.0f} s, and {max(left_s, 0.0):.0f} s of the time budget are left"
        )


def epochs_seconds(score: TrialScore, epochs: int) -> float:
    """Estimate the seconds for ``epochs`` more epochs of a network that was trained for ``score.epoch`` of them."""
    return OVERHEAD_FACTOR * score.train_s / max(score.epoch, 1) * epochs


def training_seconds(records: Iterable[TrialRecord], latency_ms: float, epochs: int) -> float | None:
    """Estimate the seconds for ``epochs`` of a network of this latency; None with fewer than three timed trials."""
    found = epoch_seconds(records)
    return None if found is None else float(OVERHEAD_FACTOR * (found[0] + found[1] * latency_ms) * epochs)


def epoch_seconds(records: Iterable[TrialRecord]) -> tuple[float, float] | None:
    """Estimate seconds of an epoch of any network, and further seconds per ms of latency; None with fewer than three timed trials.

    Both are non-negative, by least squares of the relative errors. That is accurate to about 25 % where training and target device
    are of one kind, and a rough estimate elsewhere.
    """
    seen = [
        (record.latency_ms, record.score.train_s / record.score.epoch)
        for record in records
        if record.score and record.score.epoch and record.score.train_s > 0 and record.latency_ms
    ]
    if len(seen) < _LEAST_TRAININGS:
        return None
    known_ms, epoch_s = np.array(seen).T
    constant, rate = nnls(np.stack([1 / epoch_s, known_ms / epoch_s], axis=1), np.ones(len(seen)))[0]
    return float(constant), float(rate)
