"""Who stands on the Pareto front, and how good a front is.

All functions on arrays minimise every column: negate what is maximised. NaN means "unknown": a row that holds one is
never on a front, dominates nothing and adds nothing to a hypervolume. Infinity is an ordinary value.
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
    """The members of a front and the corner its hypervolume is measured from.

    Attributes:
        records: the members, by the last objective from best to worst (fastest first), equal ones by trial number.
        objectives: what was compared.
        reference_point: the worst corner, in the objectives' own units and order, e.g. ``(0.0, 25.0)``, mIoU and ms.
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
    """The corner used throughout: each objective at its budget; without one at 0 where more is better (mIoU 0), at the
    worst complete trial where less is.

    Two fronts may only be compared with the same corner: set the budgets, or pass one study's corner to the other.

    Args:
        latency_budget_ms: the budget of ``latency_ms``, where the objective does not carry it.
    """
    complete = [record for record in records if record.complete]
    corner = []
    for objective in objectives:
        budget = objective.budget
        if budget is None and objective.name == LATENCY.name:
            budget = latency_budget_ms
        if budget is None and objective.direction == "minimize":
            known = [objective.value(record) for record in complete]
            budget = max((value for value in known if np.isfinite(value)), default=0.0)
        corner.append(float(budget or 0.0))
    return tuple(corner)


def pareto_front(
    records: Sequence[TrialRecord],
    *,
    reference: Sequence[float] | None = None,
    objectives: Sequence[Objective] = OBJECTIVES,
) -> ParetoFront:
    """The front of the complete records: no partial score, no repeated proposal, and no unknown value stands on it.

    Of different trials with exactly equal values all stand on the front: none dominates another.

    Args:
        records: all trials of a study; only ``record.complete`` ones are looked at.
        reference: see ``reference_point``, which is asked where None.
        objectives: pass ``(MIOU, MEASURED_LATENCY)`` for the front by what was measured.
    """
    eligible = [record for record in records if record.complete]
    values = _values(eligible, objectives)
    known = ~np.isnan(values).any(axis=1)
    on_front = (non_dominated_rank(values) == 0) & known
    members = [record for record, chosen in zip(eligible, on_front, strict=True) if chosen]
    last = objectives[-1]
    members.sort(key=lambda record: (last.sign * last.value(record), record.number))
    corner = reference_point(eligible, objectives=objectives) if reference is None else tuple(reference)
    return ParetoFront(tuple(members), tuple(objectives), corner)


def hypervolume_history(
    records: Sequence[TrialRecord], reference: Sequence[float], objectives: Sequence[Objective] = OBJECTIVES
) -> list[tuple[int, float]]:
    """(trial number, hypervolume of all complete trials up to it), one entry per complete trial, by number."""
    complete = sorted((record for record in records if record.complete), key=lambda record: record.number)
    corner = _signed(objectives, reference)
    members = np.empty((0, len(objectives)))
    total, history = 0.0, []
    for record, point in zip(complete, _values(complete, objectives), strict=True):
        gained = exclusive_hypervolume(point, members, corner)
        if gained > 0.0:
            members = np.vstack([members[~(point <= members).all(axis=1)], point])
            total += gained
        history.append((record.number, total))
    return history


def _values(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> FloatArray:
    rows = [[objective.sign * objective.value(record) for objective in objectives] for record in records]
    return np.asarray(rows, dtype=np.float64).reshape(len(records), len(objectives))


def _signed(objectives: Sequence[Objective], corner: Sequence[float]) -> list[float]:
    return [objective.sign * value for objective, value in zip(objectives, corner, strict=True)]
