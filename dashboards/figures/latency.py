"""Figures of predicted against measured latency. None is returned without measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import plotly.graph_objects as go

from dashboards import text
from dashboards.figures.parts import (
    BUDGET,
    FRONT,
    GREY,
    INK,
    hover_text,
    interval_bars,
    interval_lengths,
    points,
    style,
)
from objectives.trial_record import TrialRecord


def predicted_vs_measured_figure(records: Sequence[TrialRecord]) -> go.Figure | None:
    """Draw predicted latency with its interval against the measured one, with the diagonal and a band of 10 %."""
    judged = [replace(record, estimate=record.judged_estimate) for record in records]
    known = [r for r in judged if r.measured_ms is not None and r.estimate is not None and r.duplicate_of is None]
    if not known:
        return None
    end = 1.08 * max(max(r.estimate.high_ms, r.measured_ms) for r in known if r.estimate and r.measured_ms is not None)
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[0, end, end, 0],
            y=[0, 0.9 * end, 1.1 * end, 0],
            fill="toself",
            fillcolor="rgba(31,41,55,0.06)",
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            name="within 10%",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[0, end],
            y=[0, end],
            mode="lines",
            line={"color": GREY, "width": 1, "dash": "dash"},
            hoverinfo="skip",
            name="predicted = measured",
        )
    )
    for inside, name, colour in (
        (True, "measured inside the interval", FRONT),
        (False, "measured outside the interval", BUDGET),
        (None, "no interval", GREY),
    ):
        group = [record for record in known if text.inside_interval(record) is inside]
        if group:
            trace = points(group, name, colour, "circle", 9)
            trace.x = [record.measured_ms for record in group]
            trace.y = [record.latency_ms for record in group]
            trace.error_y = interval_bars(group, colour)
            figure.add_trace(trace)
    style(figure, "measured latency, ms", "predicted latency, ms")
    figure.update_xaxes(range=[0, end])
    figure.update_yaxes(range=[0, end])
    return figure


def relative_error_figure(records: Sequence[TrialRecord]) -> go.Figure | None:
    """Draw (predicted - measured) / measured by trial, and the interval on the same scale."""
    judged = [replace(record, estimate=record.judged_estimate) for record in records]
    known = [r for r in judged if text.relative_error(r) is not None and r.duplicate_of is None]
    if not known:
        return None
    known.sort(key=lambda record: record.measured_ms or 0.0)
    names = [f"trial {record.number}" for record in known]
    errors = [100 * (text.relative_error(record) or 0.0) for record in known]
    scale = [100 / (record.measured_ms or 1.0) for record in known]
    below, above = interval_lengths(known)
    colours = [BUDGET if text.inside_interval(record) is False else FRONT for record in known]
    figure = go.Figure(
        go.Scatter(
            x=errors,
            y=names,
            mode="markers",
            marker={"size": 9, "color": colours},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [bar * factor for bar, factor in zip(above, scale, strict=True)],
                "arrayminus": [bar * factor for bar, factor in zip(below, scale, strict=True)],
                "color": GREY,
                "thickness": 1.2,
                "width": 3,
            },
            text=[hover_text(record) for record in known],
            hovertemplate="prediction %{x:+.1f} %<br>%{text}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_vrect(x0=-10, x1=10, fillcolor=INK, opacity=0.06, line_width=0)
    figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dash"})
    style(figure, "prediction error, % of measured", None, height=max(260, 110 + 26 * len(known)))
    figure.update_yaxes(type="category", range=[len(known) - 0.5, -0.5])
    return figure
