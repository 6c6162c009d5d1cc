"""Figures of several studies against each other. None is returned if there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboards import text
from dashboards.figures.objectives import axis_title
from dashboards.figures.parts import escaped, hover_text, interval_bars, style
from dashboards.figures.progress import hours_history
from objectives.objective import LATENCY
from objectives.pareto import ParetoFront
from objectives.schedule import Schedule

COLOURS = ("#2457d6", "#e4690b", "#14804a", "#8e44ad", "#b8860b", "#0e7c86")


def fronts_figure(fronts: Sequence[tuple[str, ParetoFront]]) -> go.Figure | None:
    """Draw the members of each front by the first and the last objective, with the intervals of predicted latencies.

    Args:
        fronts: name of each study and its front, by the same objectives.
    """
    if not any(len(front) for _, front in fronts):
        return None
    first, last = fronts[0][1].objectives[0], fronts[0][1].objectives[-1]
    figure = go.Figure()
    for index, (name, front) in enumerate(fronts):
        colour, members = COLOURS[index % len(COLOURS)], list(front.records)
        figure.add_trace(
            go.Scatter(
                x=[last.value(record) for record in members],
                y=[first.value(record) for record in members],
                mode="lines+markers" if len(front.objectives) == 2 else "markers",
                line={"color": colour, "width": 1.5, "shape": "hv"},
                marker={"color": colour, "size": 8},
                error_x=interval_bars(members, colour) if last.name == LATENCY.name else None,
                name=escaped([name])[0],
                hovertext=[hover_text(record) for record in members],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    style(figure, *escaped([axis_title(last), axis_title(first)]), height=480)
    figure.update_xaxes(rangemode="tozero")
    return figure


def growth_figure(schedules: Sequence[tuple[str, Schedule]], fronts: Sequence[ParetoFront]) -> go.Figure | None:
    """Draw the hypervolume of each study over its hours of searching, by the reference point of its front."""
    figure = go.Figure()
    for index, ((name, times), front) in enumerate(zip(schedules, fronts, strict=True)):
        hours, values = hours_history(times, front)
        if hours:
            line = {"color": COLOURS[index % len(COLOURS)], "width": 2, "shape": "hv"}
            figure.add_trace(go.Scatter(x=hours, y=values, mode="lines", line=line, name=escaped([name])[0]))
    if not figure.data:
        return None
    style(figure, "hours of searching", escaped([text.volume_name(fronts[0].objectives)])[0])
    figure.update_layout(showlegend=True)
    figure.update_yaxes(rangemode="tozero")
    return figure
