"""Who stands on the Pareto front, and how good a front is.

All functions on arrays minimise every column: negate what is maximised. NaN means "unknown": a row that holds one is
never on a front, dominates nothing and adds nothing to a hypervolume. Infinity is an ordinary value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from objectives.trial_record import METRIC_NAMES, TrialRecord

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """A field of ``TrialRecord`` and which way is better."""

    field: str
    direction: Literal["maximize", "minimize"]

    @property
    def sign(self) -> float:
        """What a value is multiplied with to be minimised."""
        return -1.0 if self.direction == "maximize" else 1.0

    def value(self, record: TrialRecord) -> float:
        """The record's value, NaN when it has none."""
        value = getattr(record, self.field)
        return float("nan") if value is None else float(value)


MIOU = Objective(METRIC_NAMES[0], "maximize")
LATENCY = Objective(METRIC_NAMES[1], "minimize")
MEASURED_LATENCY = Objective("measured_ms", "minimize")
OBJECTIVES = (MIOU, LATENCY)


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


def hypervolume_2d(points: npt.ArrayLike, reference: Sequence[float]) -> float:
    """Area that is dominated by ``points`` and bounded by ``reference``, both columns minimised.

    Args:
        points: (n, 2). Those not strictly better than the reference in both columns, and those with NaN, add nothing;
            dominated points and duplicates add nothing either.
        reference: the worst corner, two finite numbers.

    Returns:
        The area in the product of the two units; 0.0 without points.
    """
    corner = np.asarray(reference, dtype=np.float64)
    if corner.shape != (2,) or not np.isfinite(corner).all():
        raise ValueError(f"the reference point must be two finite numbers, got {reference}")
    array = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    array = array[(array < corner).all(axis=1)]
    array = array[np.lexsort((array[:, 1], array[:, 0]))]
    area, height = 0.0, float(corner[1])
    for first, second in array.tolist():
        if second < height:
            area += (float(corner[0]) - first) * (height - second)
            height = second
    return area


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
        """Area between the front and the reference point, e.g. in mIoU x ms. Defined for two objectives."""
        return _hypervolume(self.records, self.objectives, self.reference_point)

    def __contains__(self, record: object) -> bool:
        return isinstance(record, TrialRecord) and record.number in self.numbers

    def __len__(self) -> int:
        return len(self.records)


def reference_point(records: Iterable[TrialRecord], latency_budget_ms: float | None = None) -> tuple[float, float]:
    """The corner used throughout: mIoU 0 at the latency budget, or, without one, at the slowest complete trial.

    Two fronts may only be compared with the same corner: pass the budget, or one study's corner to the other.
    """
    if latency_budget_ms is not None:
        return 0.0, float(latency_budget_ms)
    known = [r.latency_ms for r in records if r.complete and r.latency_ms is not None and np.isfinite(r.latency_ms)]
    return 0.0, float(max(known, default=0.0))


def pareto_front(
    records: Sequence[TrialRecord],
    *,
    reference: tuple[float, float] | None = None,
    objectives: tuple[Objective, ...] = OBJECTIVES,
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
    corner = reference if reference is not None else reference_point(eligible)
    return ParetoFront(tuple(members), tuple(objectives), corner)


def hypervolume_history(records: Sequence[TrialRecord], reference: tuple[float, float]) -> list[tuple[int, float]]:
    """(trial number, hypervolume of all complete trials up to it), one entry per complete trial, by number."""
    members: list[TrialRecord] = []
    history = []
    for record in sorted((record for record in records if record.complete), key=lambda record: record.number):
        members = list(pareto_front([*members, record], reference=reference).records)
        history.append((record.number, _hypervolume(members, OBJECTIVES, reference)))
    return history


def _values(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> FloatArray:
    rows = [[objective.sign * objective.value(record) for objective in objectives] for record in records]
    return np.asarray(rows, dtype=np.float64).reshape(len(records), len(objectives))


def _hypervolume(records: Sequence[TrialRecord], objectives: Sequence[Objective], corner: tuple[float, ...]) -> float:
    signed = [objective.sign * value for objective, value in zip(objectives, corner, strict=True)]
    return hypervolume_2d(_values(records, objectives), signed)
