"""Early stopping for several objectives: successive halving by non-dominated rank of their values now: (mIoU, latency)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from objectives.objective import OBJECTIVES, Objective, intermediate_values
from objectives.pareto import non_dominated_rank
from objectives.trial_record import TrialRecord
from trial_runner.config.study import EarlyStoppingSection


class RankRule:
    """Decides, when a trial reaches a rung, whether it goes on.

    At a rung the trials that ever reached it are sorted by non-dominated rank of (mIoU at that rung, predicted latency), or
    of whatever the study's objectives are: a fast small network is compared with fast ones and is not stopped for being
    small. A trial goes on when it is of rank 0 or among the better ``1 / reduction_factor``. Ties within a rank count as
    equally good. Where a study offers several precisions, trials of one are compared with each other: a reading of the float
    network does not tell yet what quantizing it costs. Asynchronous (ASHA, Li et al. 2020, with the rank of MO-ASHA, Schmucker
    et al. 2021): nobody waits for others.
    """

    def __init__(self, config: EarlyStoppingSection, objectives: Sequence[Objective] = OBJECTIVES) -> None:
        self._rungs = sorted(set(config.rungs_epochs))
        self._factor = config.reduction_factor
        self._min_trials = config.min_trials
        self._objectives = tuple(objectives)
        self._seen: dict[tuple[int, str | None], dict[int, tuple[float, ...]]] = {}

    def is_rung(self, epoch: int) -> bool:
        """Whether trials are compared after this epoch."""
        return epoch in self._rungs

    def recall(self, records: Iterable[TrialRecord]) -> None:
        """Fill the rungs with what a study already knows, as after a restart."""
        for record in records:
            if record.latency_ms is None or record.duplicate_of is not None or record.parent_trial is not None:
                continue
            for rung in self._rungs:
                then = record.at(rung)
                if then is not None:
                    precision = record.candidate.precision if record.candidate else None
                    self._enter(record.number, rung, intermediate_values(self._objectives, then), precision)

    def stop(self, number: int, epoch: int, values: Sequence[float], precision: str | None = None) -> str | None:
        """Enter a reading; the reason to stop the trial there, or None to go on. Asking twice gives the same rung entry.

        Args:
            values: one an objective, in its own unit; with a NaN among them nothing is entered, and the trial goes on.
            precision: of the candidate; None where the study offers one only.
        """
        if not self._enter(number, epoch, values, precision):
            return None
        entries = self._seen[epoch, precision]
        if len(entries) < self._min_trials:
            return None
        numbers = list(entries)
        signs = np.array([objective.sign for objective in self._objectives])
        ranks = non_dominated_rank(signs * np.array([entries[n] for n in numbers]))
        mine = int(ranks[numbers.index(number)])
        better = int((ranks < mine).sum())
        if mine == 0 or better < math.ceil(len(numbers) / self._factor):
            return None
        labels = [objective.label for objective in self._objectives]
        named = zip(self._objectives, values, strict=True)
        trials = "trials" if precision is None else f"trials in {precision}"
        return (
            f"at epoch {epoch} {better} of {len(numbers)} {trials} were better in {', '.join(labels[:-1])} and {labels[-1]} "
            f"({', '.join(f'{item.label} {item.text(value)}' for item, value in named)}, rank {mine})"
        )

    def _enter(self, number: int, epoch: int, values: Sequence[float], precision: str | None) -> bool:
        if epoch not in self._rungs or any(map(math.isnan, values)):
            return False
        self._seen.setdefault((epoch, precision), {})[number] = tuple(values)
        return True
