"""Times of the final trainings: after the search and, with an adaptive split of the time budget, during it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from objectives.objective import Objective
from objectives.trial_record import TrialRecord
from trial_runner.config.study import FinalTrainingSection, StudyConfig
from trial_runner.search.budget import StudyBudget, epochs_seconds
from trial_runner.search.final_training import FinalTraining, FinalTrainings, next_to_continue

_MOST_TRAININGS_LONG = 4
"""Longest final training before the search is over, in trainings of the search: its network may still be superseded."""


class FinalScheduler:
    """Decides when a study trains its best networks further, by the hypervolume to be gained.

    Args:
        records: returns the records of all trials.
        budget_ms: latency budget.
        usable: returns True where the weights of a trial are there.
    """

    def __init__(
        self,
        config: StudyConfig,
        budget: StudyBudget,
        records: Callable[[], Sequence[TrialRecord]],
        budget_ms: float,
        objectives: Sequence[Objective],
        usable: Callable[[TrialRecord], bool],
    ) -> None:
        self._budget, self._records, self._usable = budget, records, usable
        self._budget_ms, self._objectives = budget_ms, objectives
        self._after = config.search.final_training
        most = min(self._after.epochs, _MOST_TRAININGS_LONG * config.training.epochs)
        self._during = self._after.model_copy(update={"epochs": most})

    def split_time(self, slots: int) -> None:
        """End the search early if the final trainings are expected to gain more from the time.

        Args:
            slots: trainings that run side by side.
        """
        trial_s = self._trial_seconds() if self._budget.may_end_search else None
        if trial_s is None:
            return
        trainings = FinalTrainings(self._records(), self._budget_ms, self._after, self._objectives)
        if trainings.worth_more_than_search(self._budget.left_s, trial_s, slots):
            self._budget.end_search()

    def during_search(self, slots: int) -> FinalTraining | None:
        """Return a final training that is expected to gain more per second now than a trial; None with a fixed split of the time."""
        trial_s = self._trial_seconds() if self._budget.splits else None
        if trial_s is None:
            return None
        records = self._records()
        trainings = FinalTrainings(records, self._budget_ms, self._during, self._objectives)
        if not trainings.gain_more_per_second(self._budget.left_s, trial_s, slots):
            return None
        return self._next(self._during, slots)

    def after_search(self, slots: int) -> FinalTraining | None:
        """Return the next final training once the search is over; None when there were enough, or none fits into the time."""
        return self._next(self._after, slots)

    def _next(self, final: FinalTrainingSection, slots: int) -> FinalTraining | None:
        return next_to_continue(
            self._records(),
            self._budget_ms,
            final,
            self._objectives,
            self._usable,
            seconds=self._budget.left_s,
            slots=slots,
        )

    def _trial_seconds(self) -> float | None:
        """Return the mean seconds of a search trial, or None before the first one has finished."""
        trained = [item.score for item in self._records() if item.complete and item.parent_trial is None and item.score]
        return sum(epochs_seconds(score, score.epoch) for score in trained) / len(trained) if trained else None
