"""Figures of a front with other objectives than mIoU and latency: pairwise panels and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.figures.parts import BUDGET, FRONT, GREY, MOST_POINTS, escaped, hover_text, style
from objectives.objective import Objective
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord

_PANEL_PX, _ACROSS = 330, 3
LEAST_PANEL_WIDTH_PX = 250
_CLOSE_X, _CLOSE_Y, _MOST_IN_LABEL = 0.04, 0.07, 4


def objectives_figure(records: Sequence[TrialRecord], front: ParetoFront) -> go.Figure | None:
    """Draw the first objective against each other one: all complete trials, the front's members with their numbers, the budgets.

    With three objectives or more the front is not a line in any panel: a member dominated in one is better in another.
    """
    shown = [record for record in records if record.complete]
    if not shown:
        return None
    first, *others = front.objectives
    across = panels_across(front.objectives)
    down = math.ceil(len(others) / across)
    figure = make_subplots(rows=down, cols=across, horizontal_spacing=0.09, vertical_spacing=0.16)
    members = set(front.numbers)
    off_front = [record for record in shown if record.number not in members]
    for index, other in enumerate(others):
        place = {"row": index // across + 1, "col": index % across + 1}
        if off_front:
            figure.add_trace(_points(off_front, other, first, on_front=False, in_legend=index == 0), **place)
        if front.records:
            figure.add_trace(_points(front.records, other, first, on_front=True, in_legend=index == 0), **place)
        line = {"color": BUDGET, "width": 1.2, "dash": "dash"}
        if other.budget is not None:
            figure.add_vline(x=other.budget, line=line, **place)
        if first.budget is not None:
            figure.add_hline(y=first.budget, line=line, **place)
    style(figure, None, None, height=_PANEL_PX * down + 70)
    for index, other in enumerate(others):
        place = {"row": index // across + 1, "col": index % across + 1}
        figure.update_xaxes(title={"text": escaped([axis_title(other)])[0]}, rangemode="nonnegative", **place)
        figure.update_yaxes(rangemode="nonnegative", **place)
        if place["col"] == 1:
            figure.update_yaxes(title={"text": escaped([axis_title(first)])[0]}, **place)
    return figure


def panels_across(objectives: Sequence[Objective]) -> int:
    """Number of panels per row: three at most, and two for four panels."""
    others = len(objectives) - 1
    return 2 if others == 4 else min(others, _ACROSS)


def trade_figure(front: ParetoFront) -> go.Figure | None:
    """Draw each member of the front as a line over all objectives, each scaled from the front's worst (0) to its best (1)."""
    if len(front.objectives) < 3 or len(front) < 2:
        return None
    names = escaped(axis_title(objective) for objective in front.objectives)
    values = [[objective.sign * objective.value(record) for objective in front.objectives] for record in front.records]
    lows, highs = ([pick(column) for column in zip(*values, strict=True)] for pick in (min, max))
    figure = go.Figure()
    for index, (record, row) in enumerate(zip(front.records, values, strict=True)):
        share = index / (len(front) - 1)
        colour = f"rgb({110 - 90 * share:.0f},{165 - 110 * share:.0f},{245 - 110 * share:.0f})"
        goodness = [
            1.0 if high == low else (high - value) / (high - low)
            for value, low, high in zip(row, lows, highs, strict=True)
        ]
        told = escaped(f"{o.label} {o.text(o.value(record))}" for o in front.objectives)
        figure.add_trace(
            go.Scatter(
                x=names,
                y=goodness,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 6, "color": colour},
                name=f"trial {record.number}",
                hovertext=["<br>".join([f"<b>Trial {record.number}</b>", *told])] * len(names),
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    style(figure, None, "worst of the front (0) to best (1)", height=380)
    figure.update_xaxes(type="category")
    figure.update_yaxes(range=[-0.05, 1.05])
    return figure


def axis_title(objective: Objective) -> str:
    """Title of an axis or column: name and unit."""
    if not objective.unit or objective.unit == objective.label:
        return objective.label
    return f"{objective.label}, {objective.unit}"


def _points(
    records: Sequence[TrialRecord], other: Objective, first: Objective, *, on_front: bool, in_legend: bool
) -> go.Scatter:
    colour = FRONT if on_front else GREY
    return go.Scatter(
        x=[_number(other.value(record)) for record in records],
        y=[_number(first.value(record)) for record in records],
        mode="markers+text" if on_front else "markers",
        text=_labels([(r.number, other.value(r), first.value(r)) for r in records]) if on_front else None,
        textposition="top center",
        cliponaxis=False,
        textfont={"color": FRONT, "size": 11},
        marker={"color": colour, "size": 10 if on_front else 7, "opacity": _opacity(len(records), on_front)},
        name="Pareto front" if on_front else "trained to the end",
        legendgroup="front" if on_front else "rest",
        showlegend=in_legend,
        hovertext=[
            hover_text(record) if len(records) <= MOST_POINTS else f"Trial {record.number}" for record in records
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _opacity(count: int, on_front: bool) -> float:
    """Opacity at which many points add to a density."""
    return 1.0 if on_front else max(0.08, min(0.6, 0.6 * MOST_POINTS / count))


def _labels(points: Sequence[tuple[int, float, float]]) -> list[str]:
    """Labels with the trials' numbers, overlapping ones joined: ``4, 7``."""
    known = [point for point in points if not math.isnan(point[1]) and not math.isnan(point[2])]
    if not known:
        return [""] * len(points)
    wide, high = (max(column) - min(column) or 1.0 for column in list(zip(*known, strict=True))[1:])
    groups: list[list[tuple[int, float, float]]] = []
    for point in known:
        close = (
            group
            for group in groups
            if abs(point[1] - group[0][1]) < _CLOSE_X * wide and abs(point[2] - group[0][2]) < _CLOSE_Y * high
        )
        group = next(close, None)
        if group is None:
            groups.append([point])
        else:
            group.append(point)
    told = {}
    for group in groups:
        numbers = [str(point[0]) for point in group]
        more = len(numbers) - _MOST_IN_LABEL
        told[group[0][0]] = ", ".join(numbers[:_MOST_IN_LABEL] + ([f"+{more}"] if more > 0 else []))
    return [told.get(number, "") for number, _, _ in points]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
