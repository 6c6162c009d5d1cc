"""Which choices led where: each trained network as a line over the dimensions of its candidate, its latency and its mIoU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from dashboards import text
from dashboards.figure_parts import INK, escaped, style
from objectives.trial_record import TrialRecord

_FEWEST_TRIALS, _MOST_AXES, _MOST_TICKS = 5, 8, 8
AXIS_PX = 125


def choices_figure(records: Sequence[TrialRecord]) -> go.Figure | None:
    """Parallel axes of the complete trials, in the colour of their mIoU; brushing an axis picks out its trials. None where there
    are too few of them to compare, or all made the same choices."""
    shown = [record for record in records if record.complete]
    names = [name for name in _dimensions(shown) if len({str(record.params[name]) for record in shown}) > 1]
    if len(shown) < _FEWEST_TRIALS or not names:
        return None
    scores = [record.val_miou or 0.0 for record in shown]
    telling = sorted(names, key=lambda name: -_told(shown, name, scores))[:_MOST_AXES]
    axes = [_axis(name, [record.params[name] for record in shown]) for name in names if name in telling]
    axes.append({"label": "latency, ms", "values": [record.latency_ms for record in shown]})
    axes.append({"label": "mIoU", "values": scores})
    figure = go.Figure(
        go.Parcoords(
            dimensions=axes,
            line={"color": scores, "colorscale": [[0, "#c3cad5"], [0.5, "#8fb0f0"], [1, "#173f9e"]]},
            labelfont={"size": 12, "color": INK},
            tickfont={"size": 11, "color": INK},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        )
    )
    style(figure, None, None, height=380)
    figure.update_layout(margin={"l": 110, "r": 50, "t": 60, "b": 30})
    return figure


def _dimensions(records: Sequence[TrialRecord]) -> list[str]:
    """Those that all of the records have, in the candidates' order."""
    if not records:
        return []
    return [name for name in records[0].params if all(name in record.params for record in records)]


def _told(records: Sequence[TrialRecord], name: str, scores: Sequence[float]) -> float:
    """The correlation ratio: what share of the scores' variance lies between the values, a range's halves, of a dimension."""
    values = [record.params[name] for record in records]
    keys: list[Any] = values
    if _is_range(values):
        middle = sorted(values)[len(values) // 2]
        keys = [value >= middle for value in values]
    mean = fmean(scores)
    groups = [[score for score, key in zip(scores, keys, strict=True) if key == value] for value in set(keys)]
    between = sum(len(group) * (fmean(group) - mean) ** 2 for group in groups)
    return between / (sum((score - mean) ** 2 for score in scores) or 1.0)


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    label = escaped([name.replace("_", " ")])[0]
    if _is_range(values):
        if min(values) <= 0 or max(values) < 10 * min(values):
            return {"label": label, "values": list(values)}
        logs = [math.log10(value) for value in values]
        ticks = list(range(math.floor(min(logs)), math.ceil(max(logs)) + 1))
        ends = [ticks[0], ticks[-1]]
        return {
            "label": label,
            "values": logs,
            "range": ends,
            "tickvals": ticks,
            "ticktext": [f"{10.0**t:g}" for t in ticks],
        }
    known = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    return {
        "label": label,
        "values": [known.index(value) for value in values],
        "tickvals": list(range(len(known))),
        "ticktext": escaped(text.value_text(value) for value in known),
    }


def _is_range(values: Sequence[Any]) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and len(set(values)) > _MOST_TICKS
