"""Multi-objective ASHA: trials are ranked at each rung by non-dominated sorting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from objectives.objective import OBJECTIVES, Objective, intermediate_values
from objectives.pareto import non_dominated_rank
from objectives.trial_record import TrialRecord
from trial_runner.config.study import EarlyStoppingSection


class MultiObjectiveASHA:
    """Asynchronous successive halving (ASHA, Li et al. 2020) by non-dominated rank (MO-ASHA, Schmucker et al. 2021).

    At a rung all trials that ever reached it are sorted by non-dominated rank of their objectives, by default (mIoU at that rung,
    predicted latency): a small, fast network competes with fast ones. A trial continues if it is of rank 0 or among the best
    ``1 / reduction_factor``; ties within a rank count as equally good. Trials are ranked within their precision, because
    intermediate mIoU is measured before quantization. Asynchronous: no trial waits for a rung to fill.
    """

    def __init__(self, config: EarlyStoppingSection, objectives: Sequence[Objective] = OBJECTIVES) -> None:
        self._rungs = sorted(set(config.rungs_epochs))
        self._factor = config.reduction_factor
        self._min_trials = config.min_trials
        self._objectives = tuple(objectives)
        self._seen: dict[tuple[int, str | None], dict[int, tuple[float, ...]]] = {}

    def is_rung(self, epoch: int) -> bool:
        """Return True if trials are compared after this epoch."""
        return epoch in self._rungs

    def restore(self, records: Iterable[TrialRecord]) -> None:
        """Restore the rungs from the records of earlier launches."""
        for record in records:
            if record.latency_ms is None or record.duplicate_of is not None or record.parent_trial is not None:
                continue
            for rung in self._rungs:
                then = record.at(rung)
                if then is not None:
                    precision = record.candidate.precision if record.candidate else None
                    self._enter(record.number, rung, intermediate_values(self._objectives, then), precision)

    def stop(self, number: int, epoch: int, values: Sequence[float], precision: str | None = None) -> str | None:
        """Enter a trial's values at a rung; return the reason to stop it, or None to continue. Entering twice is the same as once.

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
