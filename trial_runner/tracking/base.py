"""Interface of tracking tools, and a trial as they take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as tracking tools take it.

    Attributes:
        name: of the run: ``trial-00005``.
        outcome: how it ended.
        params: values of the candidate's dimensions.
        metrics: final numbers: objectives, predicted latency, epochs, seconds.
        curve: (epoch, mIoU) of each evaluation.
        reason: why it ended; empty without a reason.
    """

    name: str
    outcome: str
    params: Mapping[str, bool | int | float | str]
    metrics: Mapping[str, float]
    curve: Sequence[tuple[int, float]]
    reason: str


class TrialSink(Protocol):
    """One tracking tool.

    Attributes:
        errors: exceptions that end its use, but not the study.
    """

    errors: tuple[type[Exception], ...]

    def write(self, trial: TrackedTrial) -> None:
        """Store one ended trial as a run."""

    def close(self) -> None:
        """Write what is still buffered."""
