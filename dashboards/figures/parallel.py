"""Data of the parallel coordinates, which `parallel.js` draws: plotly's need WebGL and compile code, which the page forbids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dashboards import text
from dashboards.figures.choices import are_numbers, is_range, ordered
from objectives.objective import Objective
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord

LEAST_TRIALS = 3
AXIS_PX = 96


def parallel_data(records: Sequence[TrialRecord], front: ParetoFront) -> dict[str, Any] | None:
    """Return axes and rows as JSON values: a row for each complete trial, an axis for each dimension that varies and each objective.

    A network without one of the dimensions has ``–`` on its axis. None with fewer than `LEAST_TRIALS` trials.
    """
    complete = [record for record in records if record.complete]
    names = dict.fromkeys(name for record in complete for name in record.params)
    columns = [(name.replace("_", " "), [record.params.get(name) for record in complete]) for name in names]
    columns = [(name, values) for name, values in columns if len({str(value) for value in values}) > 1]
    if len(complete) < LEAST_TRIALS or not columns:
        return None
    axes, cells = [], []
    for name, values in columns:
        axis, column = _dimension(name, values)
        axes.append(axis)
        cells.append(column)
    for objective in front.objectives:
        axis, column = _objective(objective, [objective.value(record) for record in complete])
        axes.append(axis)
        cells.append(column)
    members = set(front.numbers)
    best_first = sorted(range(len(complete)), key=lambda at: -(complete[at].val_miou or 0.0))
    order = {at: place for place, at in enumerate(best_first)}
    rows = [
        {"trial": record.number, "front": record.number in members, "order": order[at], "values": list(values)}
        for at, (record, values) in enumerate(zip(complete, zip(*cells, strict=True), strict=True))
    ]
    return {"axes": axes, "rows": rows}


def _dimension(name: str, values: Sequence[Any]) -> tuple[dict[str, Any], list[float | None]]:
    if are_numbers(values) and is_range(values):
        return _range(name, [float(value) for value in values])
    known = ordered([value for value in values if value is not None])
    words = [*(["–"] if None in values else []), *(text.value_text(value) for value in known)]
    index = {str(value): at + len(words) - len(known) for at, value in enumerate(known)}
    return {"name": name, "categories": words}, [0 if value is None else index[str(value)] for value in values]


def _objective(objective: Objective, values: Sequence[float]) -> tuple[dict[str, Any], list[float | None]]:
    finite = [value for value in values if math.isfinite(value)]
    axis, _ = _range(objective.label, finite or [0.0], objective)
    return axis, [_short(value) if math.isfinite(value) else None for value in values]


def _range(
    name: str, values: Sequence[float], objective: Objective | None = None
) -> tuple[dict[str, Any], list[float | None]]:
    low, high = min(values), max(values)
    words = objective.text if objective else text.value_text
    ends = {"low": _short(low), "high": _short(high), "lowText": words(low), "highText": words(high)}
    return {"name": name, "log": low > 0 and high >= 4 * low, **ends}, [_short(value) for value in values]


def _short(value: float) -> float:
    return float(f"{value:.4g}")
