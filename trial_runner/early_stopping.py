"""Early stopping for two objectives: successive halving by non-dominated rank of (mIoU now, latency)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from objectives.pareto import non_dominated_rank
from objectives.trial_record import TrialRecord
from trial_runner.study_config import EarlyStoppingSection


class RankRule:
    """Decides, when a trial reaches a rung, whether it goes on.

    At a rung the trials that ever reached it are sorted by non-dominated rank of (mIoU at that rung, predicted latency):
    a fast small network is compared with fast ones and is not stopped for being small. A trial goes on when it is of rank 0
    or among the better ``1 / reduction_factor``. Ties within a rank count as equally good. Asynchronous (ASHA, Li et al.
    2020, with the rank of MO-ASHA, Schmucker et al. 2021): nobody waits for others.
    """

    def __init__(self, config: EarlyStoppingSection) -> None:
        self._rungs = sorted(set(config.rungs_epochs))
        self._factor = config.reduction_factor
        self._min_trials = config.min_trials
        self._seen: dict[int, dict[int, tuple[float, float]]] = {rung: {} for rung in self._rungs}

    def recall(self, records: Iterable[TrialRecord]) -> None:
        """Fill the rungs with what a study already knows, as after a restart."""
        for record in records:
            if record.latency_ms is None or record.reused_from is not None or record.continues is not None:
                continue
            for epoch, miou in record.curve:
                self._enter(record.number, epoch, miou, record.latency_ms)

    def stop(self, number: int, epoch: int, val_miou: float, latency_ms: float) -> str | None:
        """Enter a reading; the reason to stop the trial there, or None to go on. Asking twice gives the same rung entry."""
        if not self._enter(number, epoch, val_miou, latency_ms):
            return None
        entries = self._seen[epoch]
        if len(entries) < self._min_trials:
            return None
        numbers = list(entries)
        ranks = non_dominated_rank(np.array([[-entries[n][0], entries[n][1]] for n in numbers]))
        mine = int(ranks[numbers.index(number)])
        better = int((ranks < mine).sum())
        if mine == 0 or better < math.ceil(len(numbers) / self._factor):
            return None
        return (
            f"at epoch {epoch} {better} of {len(numbers)} trials were better in mIoU and latency "
            f"(mIoU {val_miou:.3f} at {latency_ms:.2f} ms, rank {mine})"
        )

    def _enter(self, number: int, epoch: int, val_miou: float, latency_ms: float) -> bool:
        if epoch not in self._seen:
            return False
        self._seen[epoch][number] = (val_miou, latency_ms)
        return True
