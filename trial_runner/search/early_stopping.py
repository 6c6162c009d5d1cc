"""Multi-objective ASHA: trials are ranked at each rung by non-dominated sorting, stopped, and resumed when their rank warrants it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from objectives.objective import OBJECTIVES, Objective, intermediate_values
from objectives.pareto import non_dominated_rank
from objectives.rung_reliability import Rung, RungReliability, rung_reliability
from objectives.trial_record import TrialRecord
from trial_runner.config.study import SearchSection

Group = tuple[Rung, str | None]
"""Rung and precision of trials that are compared with each other."""


def better_than(ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each trial the number of trials of a lower, better rank."""
    return np.asarray((ranks[None, :] < ranks[:, None]).sum(axis=1), dtype=np.int64)


def continuing(ranks: npt.NDArray[np.int64], reduction_factor: float) -> npt.NDArray[np.bool_]:
    """Select the trials of a rung that continue: rank 0, and the best ``1 / reduction_factor``; ties count as equally good.

    Args:
        ranks: (n,) non-dominated ranks of all trials that reached the rung.
        reduction_factor: 1 selects all of them.
    """
    return np.asarray((ranks == 0) | (better_than(ranks) < math.ceil(len(ranks) / reduction_factor)))


def widened_factor(reduction_factor: float, reliability: RungReliability | None) -> float:
    """Return the reduction factor of a rung of this reliability: the given one for a trusted rung, down to 1 for one without any
    relation to the end, where no trial is stopped."""
    return reduction_factor if reliability is None else 1.0 + (reduction_factor - 1.0) * reliability.trust


def rungs_of(search: SearchSection) -> tuple[Rung, ...]:
    """Return the rungs of a search, ascending; shares of the time budget in seconds."""
    stopping = search.early_stopping
    budget_s = 60.0 * (search.time_budget_minutes or 0.0)
    shares = [Rung(seconds=share * budget_s) for share in stopping.rungs_time_shares]
    return tuple(sorted({*(Rung(epoch) for epoch in stopping.rungs_epochs), *shares}))


class MultiObjectiveASHA:
    """Asynchronous successive halving (ASHA, Li et al. 2020) by non-dominated rank (MO-ASHA, Schmucker et al. 2021).

    At a rung all trials that ever reached it are sorted by non-dominated rank of their objectives, by default (mIoU at that rung,
    predicted latency): a small, fast network competes with fast ones. A trial continues if it is of rank 0 or among the best
    ``1 / reduction_factor``; ties within a rank count as equally good. Trials are ranked within their precision, because
    intermediate mIoU is measured before quantization. Asynchronous: no trial waits for a rung to fill. A stopped trial is
    promotable once the same rule would let it continue, as the number of trials at the rung grows. Where the finished trials show
    that a rung does not predict the end, the rule stops fewer. A rung in seconds compares trials of equal cost instead of equal
    epochs: a trial is ranked there with its first evaluation after so many seconds of training.
    """

    def __init__(self, search: SearchSection, objectives: Sequence[Objective] = OBJECTIVES) -> None:
        self._rungs = rungs_of(search)
        self._factor = search.early_stopping.reduction_factor
        self._min_trials = search.early_stopping.min_trials
        self._objectives = tuple(objectives)
        self._seen: dict[Group, dict[int, tuple[float, ...]]] = {}
        self._paused: dict[int, tuple[Group, int]] = {}
        self._finished: dict[int, TrialRecord] = {}
        self._reliability: dict[Rung, tuple[int, RungReliability | None]] = {}

    def rung_at(self, number: int, epoch: int, epoch_s: float) -> Rung | None:
        """Return the rung that a trial reaches with an evaluation, the last one if several; None for none.

        Args:
            epoch: of the evaluation.
            epoch_s: seconds of one epoch of the trial.
        """
        entered = {rung for (rung, _), entries in self._seen.items() if number in entries}
        reached = [
            rung
            for rung in self._rungs
            if (rung.reached_by(epoch, epoch_s) and rung not in entered if rung.seconds else rung.epoch == epoch)
        ]
        return reached[-1] if reached else None

    def restore(self, records: Iterable[TrialRecord]) -> None:
        """Restore the rungs from the records of earlier launches, or those that a trial has passed."""
        for record in records:
            if record.latency_ms is None or record.duplicate_of is not None or record.parent_trial is not None:
                continue
            self.finished(record)
            for rung in self._rungs:
                epoch = rung.epoch_of(record)
                then = record.at(epoch) if epoch is not None else None
                if then is not None:
                    self._enter(record.number, rung, intermediate_values(self._objectives, then), _precision(record))

    def finished(self, record: TrialRecord) -> None:
        """Take account of the result of a trial that was trained to the end."""
        if record.complete and record.parent_trial is None:
            self._finished[record.number] = record

    def stop(self, number: int, rung: Rung, values: Sequence[float], precision: str | None = None) -> str | None:
        """Enter a trial's values at a rung; return the reason to stop it, or None to continue. Entering twice is the same as once.

        Args:
            rung: of ``rung_at``.
            values: one an objective, in its own unit; with a NaN among them nothing is entered, and the trial goes on.
            precision: of the candidate; None where the study offers one only.
        """
        if not self._enter(number, rung, values, precision):
            return None
        for lower in self._rungs:  # rungs in seconds that one evaluation passes together
            if lower.seconds and lower < rung and number not in self._seen.get((lower, precision), {}):
                self._enter(number, lower, values, precision)
        numbers, ranks, continues = self._decisions((rung, precision))
        at = numbers.index(number)
        if continues[at]:
            return None
        labels = [objective.label for objective in self._objectives]
        named = zip(self._objectives, values, strict=True)
        trials = "trials" if precision is None else f"trials in {precision}"
        return (
            f"{rung} {better_than(ranks)[at]} of {len(numbers)} {trials} were better in "
            f"{', '.join(labels[:-1])} and {labels[-1]} "
            f"({', '.join(f'{item.label} {item.text(value)}' for item, value in named)}, rank {ranks[at]})"
        )

    def pause(self, record: TrialRecord, epoch: int) -> None:
        """Keep a trial that was stopped at a rung, after ``epoch`` epochs, for promotion."""
        precision = _precision(record)
        entered = [group for group, entries in self._seen.items() if record.number in entries and group[1] == precision]
        if entered:
            last = max(entered, key=lambda group: (group[0].epoch == epoch, group[0]))
            self._paused[record.number] = last, epoch

    def resume(self, number: int) -> int:
        """Take a promoted trial from those that are kept; return the epoch after which it was stopped."""
        return self._paused.pop(number)[1]

    def promotable(self) -> list[int]:
        """Return the kept trials that would not be stopped any more: those of the highest rung first, then by rank and number."""
        found = []
        groups = {number: group for number, (group, _) in self._paused.items()}
        for group in set(groups.values()):
            numbers, ranks, continues = self._decisions(group)
            found += [
                (-self._rungs.index(group[0]), int(rank), number)
                for number, rank, goes_on in zip(numbers, ranks, continues, strict=True)
                if goes_on and groups.get(number) == group
            ]
        return [number for _, _, number in sorted(found)]

    def _decisions(self, group: Group) -> tuple[list[int], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return numbers, ranks, and which trials of a rung continue; with fewer than ``min_trials`` all do."""
        entries = self._seen.get(group, {})
        numbers = list(entries)
        signs = np.array([objective.sign for objective in self._objectives])
        values = np.array([entries[number] for number in numbers]).reshape(len(numbers), len(signs))
        ranks = non_dominated_rank(signs * values)
        if len(numbers) < self._min_trials:
            return numbers, ranks, np.ones(len(numbers), dtype=np.bool_)
        return numbers, ranks, continuing(ranks, widened_factor(self._factor, self._reliability_of(group[0])))

    def _reliability_of(self, rung: Rung) -> RungReliability | None:
        counted, found = self._reliability.get(rung, (-1, None))
        if counted != len(self._finished):
            found = rung_reliability(self._finished.values(), rung)
            self._reliability[rung] = len(self._finished), found
        return found

    def _enter(self, number: int, rung: Rung, values: Sequence[float], precision: str | None) -> bool:
        if rung not in self._rungs or any(map(math.isnan, values)):
            return False
        self._seen.setdefault((rung, precision), {})[number] = tuple(values)
        return True


def _precision(record: TrialRecord) -> str | None:
    return record.candidate.precision if record.candidate else None
