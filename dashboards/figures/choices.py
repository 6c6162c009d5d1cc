"""Figure of mIoU by the dimensions of the candidates."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards import text
from dashboards.figures.parts import FRONT, GREY, escaped, hover_text, style
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord

_FEWEST_TRIALS, _MOST_PANELS, _MOST_VALUES, _ACROSS = 5, 6, 8, 3
_PANEL_PX = 270
_SHORT_WORD = 8
LEAST_WIDTH_PX = 780


def choices_figure(records: Sequence[TrialRecord], front: ParetoFront) -> go.Figure | None:
    """Draw a panel for each of the dimensions that explain most of the mIoU of complete trials. None if there are too few trials,
    or no dimension varies."""
    shown = [record for record in records if record.complete]
    names = [name for name in _dimensions(shown) if len({str(record.params[name]) for record in shown}) > 1]
    if len(shown) < _FEWEST_TRIALS or not names:
        return None
    names = sorted(names, key=lambda name: -_told(shown, name))[:_MOST_PANELS]
    across = min(len(names), _ACROSS)
    down = math.ceil(len(names) / across)
    titles = escaped(name.replace("_", " ") for name in names)
    figure = make_subplots(
        rows=down,
        cols=across,
        shared_yaxes="all",
        subplot_titles=titles,
        horizontal_spacing=0.04,
        vertical_spacing=0.32,
    )
    groups = (
        ("trained to the end", GREY, [record for record in shown if record not in front]),
        ("Pareto front", FRONT, [record for record in shown if record in front]),
    )
    for index, name in enumerate(names):
        place = {"row": index // across + 1, "col": index % across + 1}
        values = [record.params[name] for record in shown]
        for label, colour, group in groups:
            x = [record.params[name] if _is_range(values) else _word(record.params[name]) for record in group]
            figure.add_trace(_points(x, group, label, colour, in_legend=index == 0), **place)
        if _is_range(values):
            wide = min(values) > 0 and max(values) >= 10 * min(values)
            figure.update_xaxes(
                **({"type": "log", "dtick": 1, "exponentformat": "power"} if wide else {"nticks": 5}), **place
            )
        else:
            order = [_word(value) for value in _ordered(values)]
            angle = -35 if max(map(len, order)) > _SHORT_WORD else 0
            figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, tickangle=angle, **place)
    style(figure, None, None, height=_PANEL_PX * down + 60)
    figure.update_yaxes(title={"text": "mIoU"}, col=1)
    figure.update_annotations(font={"size": 14})
    return figure


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


def _dimensions(records: Sequence[TrialRecord]) -> list[str]:
    """Dimensions common to all records, in the candidates' order."""
    if not records:
        return []
    return [name for name in records[0].params if all(name in record.params for record in records)]


def _told(records: Sequence[TrialRecord], name: str) -> float:
    """Share of the mIoU's variance between the values, or between the halves of a range, of a dimension (correlation ratio)."""
    values, scores = [record.params[name] for record in records], [record.val_miou or 0.0 for record in records]
    middle = sorted(values)[len(values) // 2] if _is_range(values) else None
    keys = [str(value) if middle is None else value >= middle for value in values]
    mean = fmean(scores)
    groups = [[score for score, key in zip(scores, keys, strict=True) if key == value] for value in set(keys)]
    return sum(len(group) * (fmean(group) - mean) ** 2 for group in groups)


def _is_range(values: Sequence[Any]) -> bool:
    """Return True for numbers that hardly repeat, as drawn from a range."""
    return _are_numbers(values) and len(set(values)) > min(_MOST_VALUES, max(3, len(values) // 2))


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _ordered(values: Sequence[Any]) -> list[Any]:
    different = set(values)
    return sorted(different) if _are_numbers(values) else sorted(different, key=lambda value: _natural(str(value)))


def _natural(word: str) -> list[int | str]:
    """Natural sort key: 96x128 before 128x160."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", word)]


def _word(value: object) -> str:
    return escaped([text.value_text(value)])[0]
