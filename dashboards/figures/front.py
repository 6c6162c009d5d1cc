"""Figures of the front and of its members' IoU by class. None is returned if there is nothing to draw."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from dashboards import text
from dashboards.figures.objectives import objectives_figure
from dashboards.figures.parts import (
    BUDGET,
    FRONT,
    GREY,
    MEASURED,
    MOST_POINTS,
    axis_ranges,
    density,
    interval_bars,
    points,
    spread,
    staircase,
    style,
)
from objectives.pareto import ParetoFront
from objectives.trial_record import Outcome, TrialRecord

MOST_MEMBERS = 12


def pareto_figure(
    records: Sequence[TrialRecord], front: ParetoFront, *, latency_budget_ms: float | None = None
) -> go.Figure | None:
    """Draw mIoU against latency: all complete trials, the front with its intervals, measurements, the budget; for other
    objectives each pair of them."""
    if not text.is_default(front.objectives):
        return objectives_figure(records, front)
    ranges = axis_ranges(records, latency_budget_ms)
    if ranges is None:
        return None
    (left, right), (bottom, top) = ranges
    figure = go.Figure()
    off_front = [record for record in records if record.complete and record not in front]
    stopped = [
        r
        for r in records
        if r.outcome == Outcome.STOPPED and r.val_miou is not None and (r.latency_ms or right) < right
    ]
    if 0 < len(stopped) <= MOST_POINTS:
        figure.add_trace(points(stopped, "stopped early (mIoU when stopped)", GREY, "x-thin-open", 7, hidden=True))
    if len(off_front) > MOST_POINTS:
        x, y = [record.latency_ms or 0.0 for record in off_front], [record.val_miou or 0.0 for record in off_front]
        title = f"trained to the end ({len(off_front)}), by density"
        figure.add_trace(density(x, y, ((left, right), (bottom, top)), title))
    elif off_front:
        figure.add_trace(points(off_front, "trained to the end", GREY, "circle", 8, opacity=0.65))
    refused = [
        r for r in records if r.outcome == Outcome.INFEASIBLE and r.latency_ms is not None and r.latency_ms < right
    ]
    if 0 < len(refused) <= MOST_POINTS:
        rug = points(refused, "refused for latency, not trained", BUDGET, "line-ns-open", 9, opacity=0.7)
        rug.y = [bottom + 0.012 * (top - bottom)] * len(refused)
        figure.add_trace(rug)
    steps = staircase(front, right, bottom)
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in steps],
            y=[y for _, y in steps],
            mode="lines",
            line={"color": FRONT, "width": 2},
            fill="tozeroy",
            fillcolor="rgba(36,87,214,0.06)",
            hoverinfo="skip",
            showlegend=False,
        )
    )
    measured = [record for record in records if record.complete and record.measured_ms is not None]
    for record in measured:
        figure.add_shape(
            type="line",
            x0=record.latency_ms,
            x1=record.measured_ms,
            y0=record.val_miou,
            y1=record.val_miou,
            line={"color": MEASURED, "width": 1.5, "dash": "dot"},
        )
    on_front = list(front.records)
    if on_front:
        trace = points(on_front, "Pareto front, predicted", FRONT, "circle", 11)
        trace.error_x = interval_bars(on_front, FRONT)
        trace.mode = "markers+text"
        several = len({record.precision for record in on_front}) > 1
        trace.text = [f"{r.number} {r.precision}" if several and r.precision else f"{r.number}" for r in on_front]
        trace.cliponaxis = False
        places = _label_places(on_front, right - left, top - bottom)
        trace.text = [label if place else "" for label, place in zip(trace.text, places, strict=True)]
        trace.textposition = [place or "top left" for place in places]
        trace.textfont = {"color": FRONT, "size": 12}
        figure.add_trace(trace)
    if measured:
        trace = points(measured, "measured on the device", MEASURED, "diamond-open", 10)
        trace.marker.line.width = 2
        trace.x = [record.measured_ms for record in measured]
        figure.add_trace(trace)
    if latency_budget_ms is not None and latency_budget_ms < right:
        figure.add_vline(x=latency_budget_ms, line={"color": BUDGET, "width": 1.5, "dash": "dash"})
        figure.add_vrect(x0=latency_budget_ms, x1=right, fillcolor=BUDGET, opacity=0.05, line_width=0)
        figure.add_annotation(
            x=latency_budget_ms,
            y=1,
            yref="paper",
            text=f"budget {latency_budget_ms:g} ms",
            showarrow=False,
            xanchor="right",
            yanchor="top",
            xshift=-5,
            font={"color": BUDGET, "size": 12},
        )
    style(figure, "latency, ms (predicted, with its interval)", "validation mIoU", height=520)
    figure.update_xaxes(range=[left, right])
    figure.update_yaxes(range=[bottom, top])
    return figure


def class_iou_figure(front: ParetoFront, class_names: Sequence[str]) -> go.Figure | None:
    """Draw IoU by class of the front's members; a blank cell is a class absent from labels and predictions."""
    members = spread(members_with_classes(front, class_names), MOST_MEMBERS)
    if not members or not class_names:
        return None
    values = [list(record.score.class_iou) for record in members if record.score is not None]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=[html.escape(name, quote=False) for name in class_names],
            y=[f"trial {record.number}" for record in members],
            text=[["" if value is None else f"{value:.2f}" for value in row] for row in values],
            texttemplate="%{text}",
            zmin=0,
            zmax=1,
            colorscale=[[0, "#f7f9fc"], [0.5, "#8fb0f0"], [1, "#173f9e"]],
            showscale=False,
            hovertemplate="%{y}, %{x}: IoU %{z:.3f}<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
        )
    )
    slanted_px = 5 * max(len(name) for name in class_names)
    style(figure, None, None, height=130 + 34 * len(members) + slanted_px)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_xaxes(type="category", tickangle=-35, showgrid=False)
    return figure


def members_with_classes(front: ParetoFront, class_names: Sequence[str]) -> list[TrialRecord]:
    """Return the front's members with an IoU of each class."""
    return [r for r in front.records if r.score is not None and len(r.score.class_iou) == len(class_names)]


def _label_places(records: Sequence[TrialRecord], width: float, height: float) -> list[str]:
    """Place a label above the staircase, or below it where that is taken; empty where neither has room."""
    places: list[str] = []
    taken: list[tuple[float, float]] = []
    for record in records:
        x, y = (record.latency_ms or 0.0) / width, (record.val_miou or 0.0) / height
        for place, at in (("top left", (x - 0.02, y + 0.03)), ("bottom right", (x + 0.02, y - 0.03))):
            if all(abs(at[0] - other[0]) >= 0.035 or abs(at[1] - other[1]) >= 0.045 for other in taken):
                taken.append(at)
                places.append(place)
                break
        else:
            places.append("")
    return places
