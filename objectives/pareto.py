"""Pareto-front membership and hypervolume.

Functions on arrays minimise every column: negate maximised objectives. NaN means "unknown": a row with NaN is never on a front,
dominates nothing and adds nothing to a hypervolume. Infinity is an ordinary value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objectives.hypervolume import exclusive_hypervolume, hypervolume, hypervolume_2d as hypervolume_2d
from objectives.objective import (
    LATENCY as LATENCY,
    MEASURED_LATENCY as MEASURED_LATENCY,
    MIOU as MIOU,
    OBJECTIVES,
    Objective,
)
from objectives.trial_record import TrialRecord

FloatArray = npt.NDArray[np.float64]


def non_dominated_rank(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Rank by non-dominated sorting (Deb et al., NSGA-II, 2002).

    Args:
        values: (n, m), every column minimised.

    Returns:
        (n,): 0 for the front, 1 for the front of what remains without it, and so on. A row dominates another when it is
        no worse in every column and better in one, so equal rows share a rank. Rows with NaN all share the rank after
        the last one given to a row without, and never 0.
    """
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2:
        raise ValueError(f"values must be (n, m), got shape {points.shape}")
    known = np.flatnonzero(~np.isnan(points).any(axis=1))
    left = points[known]
    no_worse = np.ones((len(left), len(left)), dtype=np.bool_)
    better = np.zeros_like(no_worse)
    for column in left.T:
        no_worse &= column[:, None] <= column[None, :]
        better |= column[:, None] < column[None, :]
    dominates = no_worse & better
    dominators = dominates.sum(axis=0)
    rank_of_known = np.zeros(len(left), dtype=np.int64)
    rank = 0
    open_rows = np.ones(len(left), dtype=np.bool_)
    while open_rows.any():
        front = open_rows & (dominators == 0)
        rank_of_known[front] = rank
        open_rows &= ~front
        dominators = dominators - dominates[front].sum(axis=0)
        rank += 1
    ranks = np.full(len(points), max(rank, 1), dtype=np.int64)
    ranks[known] = rank_of_known
    return ranks


@dataclass(frozen=True)
class ParetoFront:
    """Pareto front with the reference point of its hypervolume.

    Attributes:
        records: members, by the last objective from best to worst (fastest first), ties by trial number.
        objectives: compared objectives.
        reference_point: reference point in the objectives' units and order, e.g. ``(0.0, 25.0)`` for mIoU and ms.
    """

    records: tuple[TrialRecord, ...]
    objectives: tuple[Objective, ...]
    reference_point: tuple[float, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Trial numbers of the members, in their order."""
        return tuple(record.number for record in self.records)

    @property
    def hypervolume(self) -> float:
        """Volume between the front and the reference point, in the product of the objectives' units: mIoU x ms."""
        return hypervolume(_values(self.records, self.objectives), _signed(self.objectives, self.reference_point))

    def __contains__(self, record: object) -> bool:
        return isinstance(record, TrialRecord) and record.number in self.numbers

    def __len__(self) -> int:
        return len(self.records)


def reference_point(
    records: Iterable[TrialRecord],
    latency_budget_ms: float | None = None,
    objectives: Sequence[Objective] = OBJECTIVES,
) -> tuple[float, ...]:
    """Return the default reference point: each objective's budget; without one, 0 if maximised, else the worst complete trial.

    Hypervolumes of two fronts are comparable only with the same reference point.

    Args:
        records: trials of the study.
        latency_budget_ms: budget of ``latency_ms`` if the objective has none.
        objectives: objectives in the order of the reference point.
    """
    complete = [record for record in records if record.complete]
    point = []
    for objective in objectives:
        budget = objective.budget
        if budget is None and objective.name == LATENCY.name:
            budget = latency_budget_ms
        if budget is None and objective.direction == "minimize":
            known = [objective.value(record) for record in complete]
            budget = max((value for value in known if np.isfinite(value)), default=0.0)
        point.append(float(budget or 0.0))
    return tuple(point)


def pareto_front(
    records: Sequence[TrialRecord],
    *,
    reference: Sequence[float] | None = None,
    objectives: Sequence[Objective] = OBJECTIVES,
) -> ParetoFront:
    """Return the Pareto front of the complete records: no partial scores, duplicates, unknown values or networks that fail on the device.

    Trials with exactly equal values are all members: none dominates another.

    Args:
        records: trials of a study; only those with ``record.complete`` and without ``record.unfit`` are considered.
        reference: reference point; None for ``reference_point``.
        objectives: compared objectives; ``(MIOU, MEASURED_LATENCY)`` gives the front by measured latency.
    """
    eligible = [record for record in records if record.complete and not record.unfit]
    values = _values(eligible, objectives)
    known = ~np.isnan(values).any(axis=1)
    on_front = (non_dominated_rank(values) == 0) & known
    members = [record for record, chosen in zip(eligible, on_front, strict=True) if chosen]
    last = objectives[-1]
    members.sort(key=lambda record: (last.sign * last.value(record), record.number))
    point = reference_point(eligible, objectives=objectives) if reference is None else tuple(reference)
    return ParetoFront(tuple(members), tuple(objectives), point)


def dominating(record: TrialRecord, front: ParetoFront) -> tuple[int, ...]:
    """Return the numbers of the front's members that are at least as good as a record in every objective."""
    (own,), members = _values([record], front.objectives), _values(front.records, front.objectives)
    return tuple(number for number, values in zip(front.numbers, members, strict=True) if (values <= own).all())


def hypervolume_history(
    records: Sequence[TrialRecord], reference: Sequence[float], objectives: Sequence[Objective] = OBJECTIVES
) -> list[tuple[int, float]]:
    """Return (trial number, hypervolume of the complete trials up to it) for each complete trial, by number."""
    complete = sorted((record for record in records if record.complete), key=lambda record: record.number)
    worst = _signed(objectives, reference)
    members = np.empty((0, len(objectives)))
    total, history = 0.0, []
    for record, point in zip(complete, _values(complete, objectives), strict=True):
        gained = exclusive_hypervolume(point, members, worst)
        if gained > 0.0:
            members = np.vstack([members[~(point <= members).all(axis=1)], point])
            total += gained
        history.append((record.number, total))
    return history


def _values(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> FloatArray:
    rows = [[objective.sign * objective.value(record) for objective in objectives] for record in records]
    return np.asarray(rows, dtype=np.float64).reshape(len(records), len(objectives))


def _signed(objectives: Sequence[Objective], values: Sequence[float]) -> list[float]:
    return [objective.sign * value for objective, value in zip(objectives, values, strict=True)]
