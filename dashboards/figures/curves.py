"""Figure of learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from dashboards.figures.parts import (
    BUDGET,
    FAINT,
    GREY,
    hover_text,
    spread,
    style,
    whole_numbers,
    wrapped,
)
from objectives.pareto import ParetoFront
from objectives.rung_reliability import Rung
from objectives.trial_record import Outcome, State, TrialRecord

Curve = tuple[tuple[int, float], ...]
MOST_CURVES, MOST_MEMBERS = 150, 12
"""More curves of a kind are drawn as bands; more members are left out evenly."""


def learning_curves_figure(
    records: Sequence[TrialRecord], front: ParetoFront, *, rungs: Sequence[Rung] = ()
) -> go.Figure | None:
    """Draw mIoU by epoch: the front's members in colour, the others thin and grey, a cross at an early stop. Of many curves of a
    kind the median and the middle 50 % and 80 % are drawn. The curve of a final training continues that of its parent trial."""
    drawn = [record for record in records if record.curve]
    if not drawn:
        return None
    by_number = {record.number: record for record in records}
    curves = {record.number: _whole_curve(record, by_number) for record in drawn}
    figure = go.Figure()
    stopped = [record for record in drawn if record.outcome == Outcome.STOPPED]
    failed = [record for record in drawn if record.state == State.FAIL]
    other = [r for r in drawn if r not in front and r.outcome != Outcome.STOPPED and r.state != State.FAIL]
    for group, name, colour, dash in (
        (stopped, "stopped early", FAINT, "solid"),
        (other, "trained, off the front", GREY, "solid"),
        (failed, "failed", BUDGET, "dot"),
    ):
        if len(group) > MOST_CURVES:
            for trace in _bands([curves[r.number] for r in group], f"{name} ({len(group)})", colour):
                figure.add_trace(trace)
        elif group:
            figure.add_trace(_joined_curves({r.number: curves[r.number] for r in group}, name, colour, dash))
    if 0 < len(stopped) <= MOST_CURVES:
        figure.add_trace(
            go.Scatter(
                x=[curves[r.number][-1][0] for r in stopped],
                y=[curves[r.number][-1][1] for r in stopped],
                mode="markers",
                marker={"symbol": "x-thin-open", "size": 7, "color": GREY},
                text=[f"<b>Trial {r.number}</b> stopped<br>{wrapped(r.reason)}" for r in stopped],
                hovertemplate="%{text}<extra></extra>",
                name="where it was stopped",
            )
        )
    shown = spread([record for record in front.records if record.curve], MOST_MEMBERS)
    labelled = _with_room([(record.number, record.curve[-1][1]) for record in shown])
    for index, record in enumerate(shown):
        curve = curves[record.number]
        # From light (fast) to dark (slow), in the order of the front.
        share = index / max(len(shown) - 1, 1)
        colour = f"rgb({110 - 90 * share:.0f},{165 - 110 * share:.0f},{245 - 110 * share:.0f})"
        figure.add_trace(
            go.Scatter(
                x=[epoch for epoch, _ in curve],
                y=[value for _, value in curve],
                mode="lines+markers+text",
                line={"color": colour, "width": 2},
                marker={"size": 4, "color": colour},
                text=[""] * (len(curve) - 1) + [str(record.number) if record.number in labelled else ""],
                textposition="middle right",
                textfont={"size": 11, "color": colour},
                hovertext=[hover_text(record)] * len(curve),
                hovertemplate="epoch %{x}, mIoU %{y:.3f}<br>%{hovertext}<extra></extra>",
                name="on the front, fast to slow",
                legendgroup="front",
                showlegend=index == len(shown) - 1,
                cliponaxis=False,
            )
        )
    last = max(curve[-1][0] for curve in curves.values())
    for rung in sorted({rung.epoch for rung in rungs if rung.epoch}):
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
    figure.update_xaxes(whole_numbers(last))
    figure.update_yaxes(rangemode="tozero")
    return figure


def _whole_curve(record: TrialRecord, by_number: Mapping[int, TrialRecord]) -> Curve:
    """Curve of a trial, after the epochs of its parent trial."""
    origin = None if record.parent_trial is None else by_number.get(record.parent_trial)
    if origin is None or not origin.curve:
        return record.curve
    start = _whole_curve(origin, by_number)[-1]
    return (start, *((start[0] + epoch, value) for epoch, value in record.curve))


def _bands(curves: Sequence[Curve], name: str, colour: str) -> list[go.Scatter]:
    """Median of many curves by epoch, in bands of their middle 50 % and 80 %, as far as ten of them reach."""
    by_epoch: dict[int, list[float]] = {}
    for curve in curves:
        for epoch, value in curve:
            by_epoch.setdefault(epoch, []).append(value)
    epochs = [epoch for epoch in sorted(by_epoch) if len(by_epoch[epoch]) >= 10]
    lines = [[round(float(np.percentile(by_epoch[e], share)), 4) for e in epochs] for share in (10, 90, 25, 75, 50)]
    fill = f"rgba({','.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))},0.25)"
    traces = [
        go.Scatter(
            x=epochs,
            y=line,
            mode="lines",
            line={"width": 0},
            fill="tonexty" if at % 2 else None,
            fillcolor=fill,
            hoverinfo="skip",
            legendgroup=name,
            showlegend=False,
        )
        for at, line in enumerate(lines[:4])
    ]
    median = go.Scatter(
        x=epochs,
        y=lines[4],
        mode="lines",
        line={"color": colour, "width": 1.5, "dash": "dash"},
        name=f"{name}: median, 50 %, 80 %",
        legendgroup=name,
        hovertemplate="epoch %{x}: median mIoU %{y:.3f}<extra></extra>",
    )
    return [*traces, median]


def _with_room(ends: Sequence[tuple[int, float]]) -> set[int]:
    """Select trials whose curves end far enough from a better one's end for a label."""
    chosen: dict[int, float] = {}
    room = 0.035 * max((value for _, value in ends), default=0.0)
    for number, value in sorted(ends, key=lambda end: -end[1]):
        if all(other - value >= room for other in chosen.values()):
            chosen[number] = value
    return set(chosen)


def _joined_curves(curves: Mapping[int, Curve], name: str, colour: str, dash: str) -> go.Scatter:
    """Join many curves to one trace with gaps, as a thousand traces are slow in a browser."""
    x: list[int | None] = []
    y: list[float | None] = []
    labels: list[str] = []
    for number, curve in curves.items():
        x += [*(epoch for epoch, _ in curve), None]
        y += [*(value for _, value in curve), None]
        labels += [f"Trial {number}"] * (len(curve) + 1)
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
