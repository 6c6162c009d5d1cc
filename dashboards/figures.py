"""The plotly figures. Each function returns None where there is nothing to draw; the caller then says so in words."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from dashboards import text
from dashboards.figure_parts import (
    BUDGET,
    FAINT,
    FRONT,
    GREY,
    MEASURED,
    axis_ranges,
    escaped,
    hover_text,
    interval_bars,
    points,
    staircase,
    style,
    wrapped,
)
from dashboards.objective_figures import objectives_figure
from objectives.pareto import ParetoFront, hypervolume_history
from objectives.trial_record import REFUSED, STOPPED, TrialRecord


def pareto_figure(
    records: Sequence[TrialRecord], front: ParetoFront, *, latency_budget_ms: float | None = None
) -> go.Figure | None:
    """mIoU against latency: all complete trials, the front with its intervals, what was measured, the budget; for a front of
    other objectives each pair of them."""
    if not text.is_usual(front.objectives):
        return objectives_figure(records, front)
    ranges = axis_ranges(records, latency_budget_ms)
    if ranges is None:
        return None
    (left, right), (bottom, top) = ranges
    figure = go.Figure()
    off_front = [record for record in records if record.complete and record not in front]
    stopped = [
        r for r in records if r.outcome == STOPPED and r.val_miou is not None and (r.latency_ms or right) < right
    ]
    if stopped:
        figure.add_trace(points(stopped, "stopped early (mIoU when stopped)", GREY, "x-thin-open", 7, hidden=True))
    if off_front:
        figure.add_trace(points(off_front, "trained to the end", GREY, "circle", 8, opacity=0.65))
    refused = [r for r in records if r.outcome == REFUSED and r.latency_ms is not None and r.latency_ms < right]
    if refused:
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
        trace.text = [f"{record.number}" for record in on_front]
        trace.textposition = _label_places(on_front, right - left, top - bottom)
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


def learning_curves_figure(
    records: Sequence[TrialRecord], front: ParetoFront, *, rungs: Sequence[int] = ()
) -> go.Figure | None:
    """mIoU by epoch: the front's members in colour, the rest thin and grey, a cross where one was stopped."""
    drawn = [record for record in records if record.curve]
    if not drawn:
        return None
    figure = go.Figure()
    stopped = [record for record in drawn if record.outcome == STOPPED]
    failed = [record for record in drawn if record.state == "FAIL"]
    other = [r for r in drawn if r not in front and r.outcome != STOPPED and r.state != "FAIL"]
    for group, name, colour, dash in (
        (stopped, "stopped early", FAINT, "solid"),
        (other, "trained, off the front", GREY, "solid"),
        (failed, "failed", BUDGET, "dot"),
    ):
        if group:
            figure.add_trace(_joined_curves(group, name, colour, dash))
    if stopped:
        figure.add_trace(
            go.Scatter(
                x=[record.curve[-1][0] for record in stopped],
                y=[record.curve[-1][1] for record in stopped],
                mode="markers",
                marker={"symbol": "x-thin-open", "size": 7, "color": GREY},
                text=[f"<b>Trial {r.number}</b> stopped<br>{wrapped(r.reason)}" for r in stopped],
                hovertemplate="%{text}<extra></extra>",
                name="where it was stopped",
            )
        )
    shown = [record for record in front.records if record.curve]
    labelled = _with_room([(record.number, record.curve[-1][1]) for record in shown])
    for index, record in enumerate(shown):
        # From light (fast) to dark (slow): a front is ordered, so its colours are.
        share = index / max(len(shown) - 1, 1)
        colour = f"rgb({110 - 90 * share:.0f},{165 - 110 * share:.0f},{245 - 110 * share:.0f})"
        figure.add_trace(
            go.Scatter(
                x=[epoch for epoch, _ in record.curve],
                y=[value for _, value in record.curve],
                mode="lines+markers+text",
                line={"color": colour, "width": 2},
                marker={"size": 4, "color": colour},
                text=[""] * (len(record.curve) - 1) + [str(record.number) if record.number in labelled else ""],
                textposition="middle right",
                textfont={"size": 11, "color": colour},
                hovertext=[hover_text(record)] * len(record.curve),
                hovertemplate="epoch %{x}, mIoU %{y:.3f}<br>%{hovertext}<extra></extra>",
                name="on the front, fast to slow",
                legendgroup="front",
                showlegend=index == len(shown) - 1,
                cliponaxis=False,
            )
        )
    last = max(record.curve[-1][0] for record in drawn)
    for rung in sorted(set(rungs)):
        if rung < last:
            figure.add_vline(x=rung, line={"color": GREY, "width": 1, "dash": "dot"})
            figure.add_annotation(
                x=rung,
                y=1,
                yref="paper",
                text="rung",
                showarrow=False,
                yanchor="bottom",
                font={"size": 10, "color": GREY},
            )
    style(figure, "epoch", "validation mIoU")
    figure.update_yaxes(rangemode="tozero")
    return figure


def class_iou_figure(front: ParetoFront, class_names: Sequence[str]) -> go.Figure | None:
    """IoU by class of the front's members; a blank cell is a class absent from labels and predictions."""
    members = [r for r in front.records if r.score is not None and len(r.score.class_iou) == len(class_names)]
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
    style(figure, None, None, height=150 + 34 * len(members))
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_xaxes(type="category", tickangle=-35, showgrid=False)
    return figure


def hypervolume_figure(records: Sequence[TrialRecord], front: ParetoFront) -> go.Figure | None:
    """Hypervolume of all that was complete up to each trial, by the front's objectives and corner."""
    history = hypervolume_history(records, front.reference_point, front.objectives)
    if not history:
        return None
    last = max(record.number for record in records)
    numbers = [*(number for number, _ in history), last]
    values = [*(value for _, value in history), history[-1][1]]
    figure = go.Figure(
        go.Scatter(
            x=numbers,
            y=values,
            mode="lines",
            line={"color": FRONT, "width": 2, "shape": "hv"},
            fill="tozeroy",
            fillcolor="rgba(36,87,214,0.06)",
            hovertemplate="up to trial %{x}: %{y:.4g}<extra></extra>",
            showlegend=False,
        )
    )
    style(figure, "trial", escaped([f"hypervolume, {text.volume_unit(front.objectives)}"])[0])
    figure.update_yaxes(rangemode="tozero")
    return figure


def _with_room(ends: Sequence[tuple[int, float]]) -> set[int]:
    """Trials whose curves end far enough from a better one's end to carry a label."""
    chosen: dict[int, float] = {}
    room = 0.035 * max((value for _, value in ends), default=0.0)
    for number, value in sorted(ends, key=lambda end: -end[1]):
        if all(other - value >= room for other in chosen.values()):
            chosen[number] = value
    return set(chosen)


def _label_places(records: Sequence[TrialRecord], width: float, height: float) -> list[str]:
    """Above the staircase; below it for a point that is close to one already labelled above."""
    places: list[str] = []
    taken: tuple[float, float] | None = None
    for record in records:
        at = (record.latency_ms or 0.0) / width, (record.val_miou or 0.0) / height
        if taken is not None and abs(at[0] - taken[0]) < 0.025 and abs(at[1] - taken[1]) < 0.05:
            places.append("bottom right")
        else:
            places.append("top left")
            taken = at
    return places


def _joined_curves(records: Sequence[TrialRecord], name: str, colour: str, dash: str) -> go.Scatter:
    """Many curves as one trace with gaps: a thousand traces would make a browser crawl."""
    x: list[int | None] = []
    y: list[float | None] = []
    labels: list[str] = []
    for record in records:
        x += [*(epoch for epoch, _ in record.curve), None]
        y += [*(value for _, value in record.curve), None]
        labels += [f"Trial {record.number}"] * (len(record.curve) + 1)
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"color": colour, "width": 1, "dash": dash},
        marker={"size": 2.5},
        text=labels,
        hovertemplate="%{text}: epoch %{x}, mIoU %{y:.3f}<extra></extra>",
        name=name,
    )
