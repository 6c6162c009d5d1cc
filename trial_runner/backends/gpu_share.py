"""GPUs of a trial's process: a given number, or with ``auto`` the share of one that the first trials' peak memory asks for."""

from __future__ import annotations

import math

from trial_runner.config.study import ComputeSection

_FIRST_TRIALS = 3
_MARGIN = 1.25
_MOST_ON_A_GPU = 16


def share_of(peak: float) -> float:
    """Share of a GPU for a trial whose memory peaks at this share of it: one part of a whole number of parts, with a margin of 25 %."""
    parts = int(1 / (_MARGIN * peak)) if peak > 0 else _MOST_ON_A_GPU
    return math.floor(1e4 / min(max(parts, 1), _MOST_ON_A_GPU)) / 1e4  # Ray counts ten-thousandths


class GpuShare:
    """GPUs that the next trial gets.

    With ``compute.gpus_per_trial: auto`` the first trials get a GPU each, on a cluster that has any; once three have reported their
    peak memory, later ones share a GPU with as many others as the largest peak so far allows.

    Attributes:
        auto: True where the number is measured.
    """

    def __init__(self, compute: ComputeSection) -> None:
        self._given = None if compute.gpus_per_trial == "auto" else compute.gpus_per_trial
        self._peaks: dict[int, float] = {}
        self.auto = self._given is None

    def note(self, number: int, peak: float) -> None:
        """Note the share of its GPU's memory that a trial has used at most."""
        if peak > 0:
            self._peaks[number] = max(peak, self._peaks.get(number, 0.0))

    def next(self, gpus: float) -> float:
        """GPUs of the next trial, on a cluster with this many."""
        if self._given is not None:
            return self._given
        if gpus <= 0:
            return 0.0
        return share_of(max(self._peaks.values())) if len(self._peaks) >= _FIRST_TRIALS else 1.0
