"""Figure of mIoU by the dimensions of the candidates."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards import text
from dashboards.figures.parts import FRONT, GREY, MOST_POINTS, escaped, hover_text, style
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord

_FEWEST_TRIALS, _MOST_PANELS, _MOST_VALUES, _ACROSS, _BINS = 5, 6, 8, 3, 20
_PANEL_PX = 270
_SHORT_WORD = 8
LEAST_WIDTH_PX = 780


def choices_figure(records: Sequence[TrialRecord], front: ParetoFront) -> go.Figure | None:
    """Draw a panel for each of the dimensions that explain most of the mIoU of complete trials. None if there are too few trials,
    or no dimension varies."""
    shown = [record for record in records if record.complete]
    names, _ = shown_dimensions(shown)
    if len(shown) < _FEWEST_TRIALS or not names:
        return None
    across = min(len(names), _ACROSS)
    down = math.ceil(len(names) / across)
    titles = escaped(name.replace("_", " ") for name in names)
    figure = make_subplots(
        rows=down,
        cols=across,
        shared_yaxes="all",
        subplot_titles=titles,
        horizontal_spacing=0.04,
        vertical_spacing=0.32 if any(_slant(shown, name) for name in names[: across * (down - 1)]) else 0.2,
    )
    groups = (
        ("trained to the end", GREY, [record for record in shown if record not in front]),
        ("Pareto front", FRONT, [record for record in shown if record in front]),
    )
    for index, name in enumerate(names):
        place = {"row": index // across + 1, "col": index % across + 1}
        values = [record.params[name] for record in shown]
        if len(shown) > MOST_POINTS:
            figure.add_trace(_spread_of(name, shown, values), **place)
        for label, colour, group in groups[1:] if len(shown) > MOST_POINTS else groups:
            x = [record.params[name] if is_range(values) else _word(record.params[name]) for record in group]
            figure.add_trace(_points(x, group, label, colour, in_legend=index == 0), **place)
        if is_range(values):
            figure.update_xaxes(**log_axis(values), **place)
        else:
            order = [_word(value) for value in ordered(values)]
            figure.update_xaxes(
                type="category", categoryorder="array", categoryarray=order, tickangle=_slant(shown, name), **place
            )
    style(figure, None, None, height=_PANEL_PX * down + 60)
    figure.update_yaxes(title={"text": "mIoU"}, col=1)
    figure.update_annotations(font={"size": 14})
    return figure


def shown_dimensions(records: Sequence[TrialRecord]) -> tuple[list[str], list[str]]:
    """Return the dimensions that the figure shows, the one that the mIoU goes with most first, and the varied ones that it does not."""
    complete = [record for record in records if record.complete]
    names = dict.fromkeys(name for record in complete for name in record.params)
    varied = [name for name in names if len({str(record.params.get(name)) for record in complete}) > 1]
    common = [name for name in varied if all(name in record.params for record in complete)]
    chosen = sorted(common, key=lambda name: -_told(complete, name))[:_MOST_PANELS]
    return chosen, [name for name in varied if name not in chosen]


def log_axis(values: Sequence[float]) -> dict[str, object]:
    """Settings of an axis: logarithmic for positive values that differ by a factor of 4 or more."""
    low, high = min(values), max(values)
    if low <= 0 or high < 4 * low:
        return {"nticks": 5}
    steps = (1, 2, 5) if high < 100 * low else (1,)
    ticks = [
        step * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for step in steps
    ]
    ticks = [tick for tick in ticks if 0.8 * low <= tick <= 1.25 * high]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _slant(records: Sequence[TrialRecord], name: str) -> int:
    """Angle of the labels of a choice's values, 0 for short ones and for ranges."""
    values = [record.params[name] for record in records]
    return -35 if not is_range(values) and max(len(_word(value)) for value in values) > _SHORT_WORD else 0


def _spread_of(name: str, records: Sequence[TrialRecord], values: Sequence[Any]) -> go.Box | go.Scatter:
    """Boxes of the mIoU by value, or for a range its median with the middle half by bins of equally many trials."""
    scores = [record.val_miou or 0.0 for record in records]
    if not is_range(values):
        order = ordered(values)
        parts = [
            np.percentile([s for s, v in zip(scores, values, strict=True) if v == one], (5, 25, 50, 75, 95))
            for one in order
        ]
        low, first, middle, third, high = (np.round(column, 4).tolist() for column in zip(*parts, strict=True))
        return go.Box(
            x=[_word(value) for value in order],
            lowerfence=low,
            q1=first,
            median=middle,
            q3=third,
            upperfence=high,
            line={"color": GREY, "width": 1.3},
            fillcolor="rgba(138,148,166,0.25)",
            showlegend=False,
            name=_word(name),
        )
    parts = [part for part in np.array_split(np.argsort(values), _BINS) if len(part)]
    quartiles = [np.percentile([scores[at] for at in part], (25, 50, 75)) for part in parts]
    return go.Scatter(
        x=[float(np.median([values[at] for at in part])) for part in parts],
        y=[round(float(quartile[1]), 4) for quartile in quartiles],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [round(float(quartile[2] - quartile[1]), 4) for quartile in quartiles],
            "arrayminus": [round(float(quartile[1] - quartile[0]), 4) for quartile in quartiles],
            "color": GREY,
        },
        mode="lines+markers",
        line={"color": GREY, "width": 1.3},
        showlegend=False,
        hovertemplate="median mIoU %{y:.3f}, bars: middle half<extra></extra>",
    )


def _points(x: list[Any], group: Sequence[TrialRecord], label: str, colour: str, *, in_legend: bool) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=[record.val_miou for record in group],
        mode="markers",
        marker={"color": colour, "size": 8, "opacity": 0.7},
        name=label,
        legendgroup=label,
        showlegend=in_legend,
        hovertext=[hover_text(record) for record in group],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _told(records: Sequence[TrialRecord], name: str) -> float:
    """Share of the mIoU's variance between the values, or between the halves of a range, of a dimension (correlation ratio)."""
    values, scores = [record.params[name] for record in records], [record.val_miou or 0.0 for record in records]
    middle = sorted(values)[len(values) // 2] if is_range(values) else None
    keys = [str(value) if middle is None else value >= middle for value in values]
    mean = fmean(scores)
    groups = [[score for score, key in zip(scores, keys, strict=True) if key == value] for value in set(keys)]
    return sum(len(group) * (fmean(group) - mean) ** 2 for group in groups)


def is_range(values: Sequence[Any]) -> bool:
    """Return True for numbers that hardly repeat, as drawn from a range."""
    return are_numbers(values) and len(set(values)) > min(_MOST_VALUES, max(3, len(values) // 2))


def are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def ordered(values: Sequence[Any]) -> list[Any]:
    different = set(values)
    return sorted(different) if are_numbers(values) else sorted(different, key=lambda value: _natural(str(value)))


def _natural(word: str) -> list[int | str]:
    """Natural sort key: 96x128 before 128x160."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", word)]


def _word(value: object) -> str:
    return escaped([text.value_text(value)])[0]
