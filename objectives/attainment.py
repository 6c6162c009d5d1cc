"""Attainment of a front by repeated studies: the values that a share of them reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from objectives.pareto import ParetoFront

SHARES = (0.25, 0.5, 0.75)
LEAST_STUDIES = 3
"""Fewer repetitions have no spread worth stating."""


@dataclass(frozen=True)
class Attainment:
    """Empirical attainment surfaces of two objectives (Fonseca and Fleming, 1996).

    Attributes:
        at: values of the last objective, such as latencies in ms, from best to worst.
        surfaces: by share of the studies, for each value of ``at``: the value of the first objective that at least this share of the
            studies reaches without being worse than ``at`` in the last one; NaN where fewer reach any.
        studies: number of studies.
    """

    at: tuple[float, ...]
    surfaces: dict[float, tuple[float, ...]]
    studies: int


def attainment(fronts: Sequence[ParetoFront], shares: Sequence[float] = SHARES) -> Attainment | None:
    """Compute the attainment of repeated studies; None for fewer than three, or for other than two objectives.

    Args:
        fronts: of each study, by the same objectives.
        shares: of the studies, above 0 to 1.
    """
    if len(fronts) < LEAST_STUDIES or len(fronts[0].objectives) != 2:
        return None
    first, last = fronts[0].objectives
    points = [
        [
            (where, value)
            for record in front.records
            if not math.isnan(where := last.value(record)) and not math.isnan(value := first.value(record))
        ]
        for front in fronts
    ]
    at = sorted({where for front in points for where, _ in front}, key=lambda value: last.sign * value)
    surfaces: dict[float, list[float]] = {share: [] for share in shares}
    for limit in at:
        reached = []
        for front in points:
            known = [value for where, value in front if last.sign * where <= last.sign * limit]
            reached.append(min(known, key=lambda value: first.sign * value, default=math.nan))
        ranked = sorted(reached, key=lambda value: math.inf if math.isnan(value) else first.sign * value)
        for share in shares:
            surfaces[share].append(ranked[math.ceil(share * len(ranked)) - 1])
    return Attainment(tuple(at), {share: tuple(values) for share, values in surfaces.items()}, len(fronts))
