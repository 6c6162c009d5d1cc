"""Figures of the latency report. None is returned if there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from dashboards import text
from dashboards.figures.parts import BUDGET, FAINT, FRONT, GREY, INK, MEASURED, escaped, style
from hw_latency_model.report.latency_report import Reading
from hw_latency_model.report.networks import NO_FAMILY
from hw_latency_model.report.parts import CoverageBand, Drift, GroupErrors, KindErrors

_BAND = "rgba(31,41,55,0.07)"
_SIDES = (
    (True, "measured inside the interval", FRONT),
    (False, "measured outside the interval", BUDGET),
)
_LEAST_SHARE = 0.005
FAR_OFF_PERCENT = 25
"""Error in per cent from which a kind's time is marked as wrong."""


def parity_figure(readings: Sequence[Reading]) -> go.Figure | None:
    """Draw predicted latency with its interval against the measured one, both on log scales, with a band of 10 %."""
    known = [reading for reading in readings if reading.measured_ms is not None]
    if not known:
        return None
    values = [ms for r in known for ms in (r.measured_ms or 0.0, r.predicted_ms)]
    ends = [0.8 * min(values), 1.25 * max(values)]
    figure = go.Figure(
        go.Scatter(
            x=[*ends, *reversed(ends)],
            y=[0.9 * ends[0], 0.9 * ends[1], 1.1 * ends[1], 1.1 * ends[0]],
            fill="toself",
            fillcolor=_BAND,
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            name="within 10%",
        )
    )
    line = {"color": GREY, "width": 1, "dash": "dash"}
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", name="predicted = measured"))
    for inside, name, colour in _SIDES:
        group = [reading for reading in known if reading.inside is inside]
        if group:
            figure.add_trace(
                go.Scatter(
                    x=[r.measured_ms for r in group],
                    y=[r.predicted_ms for r in group],
                    error_y={
                        "type": "data",
                        "symmetric": False,
                        "array": [r.high_ms - r.predicted_ms for r in group],
                        "arrayminus": [r.predicted_ms - r.low_ms for r in group],
                        "color": colour,
                        "thickness": 1,
                        "width": 0,
                    },
                    mode="markers",
                    marker={"color": colour, "size": 7, "line": {"color": "white", "width": 1}},
                    name=name,
                    hovertext=[_hover(r) for r in group],
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
    style(figure, "measured latency, ms", "predicted latency, ms", height=460)
    ticks, shown = _log_ticks(*ends)
    reach = [math.log10(end) for end in ends]
    figure.update_xaxes(type="log", range=reach, tickvals=ticks, ticktext=shown)
    figure.update_yaxes(type="log", range=reach, tickvals=ticks, ticktext=shown)
    return figure


def family_figure(readings: Sequence[Reading], families: Sequence[GroupErrors]) -> go.Figure | None:
    """Draw the signed error of each network in its family's row, worst family on top, with the family's median."""
    known = [reading for reading in readings if reading.error_rel is not None]
    if not known:
        return None
    rows = {group.name: f"{group.name} ({group.networks})" for group in families}
    figure = go.Figure()
    for inside, name, colour in _SIDES:
        group = [reading for reading in known if reading.inside is inside]
        if group:
            figure.add_trace(
                go.Scatter(
                    x=[100 * (r.error_rel or 0.0) for r in group],
                    y=[rows[r.family or NO_FAMILY] for r in group],
                    mode="markers",
                    marker={"color": colour, "size": 7, "opacity": 0.7},
                    name=name,
                    hovertext=[_hover(r) for r in group],
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
    figure.add_trace(
        go.Scatter(
            x=[100 * group.bias_rel for group in families],
            y=list(rows.values()),
            mode="markers",
            marker={"color": INK, "size": 15, "symbol": "line-ns-open", "line": {"width": 2.5}},
            name="the family's median",
            hovertemplate="%{y}: median %{x:+.1f} %<extra></extra>",
        )
    )
    _error_axis(figure, "prediction error, % of measured", list(rows.values()), 10)
    return figure


def kind_figure(kinds: Sequence[KindErrors]) -> go.Figure | None:
    """Draw the error of the time of each kind of kernel against the profile, kinds with the largest share of time on top."""
    shown = [kind for kind in kinds if kind.bias_rel is not None and kind.time_share >= _LEAST_SHARE]
    if not shown:
        return None
    rows = [f"{kind.kind} ({kind.time_share:.0%} of the time)" for kind in shown]
    figure = go.Figure(
        go.Bar(
            x=[100 * (kind.bias_rel or 0.0) for kind in shown],
            y=rows,
            orientation="h",
            marker={
                "color": [FRONT if 100 * abs(kind.bias_rel or 0.0) <= FAR_OFF_PERCENT else MEASURED for kind in shown]
            },
            width=0.55,
            customdata=[[100 * (kind.median_error_rel or 0.0), kind.kernels, kind.networks] for kind in shown],
            hovertemplate=(
                "median %{x:+.0f} % of profiled, typically %{customdata[0]:.0f} % off<br>"
                "%{customdata[1]} kernels in %{customdata[2]} networks<extra></extra>"
            ),
            showlegend=False,
        )
    )
    _error_axis(figure, "predicted less profiled time, % of profiled", rows, FAR_OFF_PERCENT)
    return figure


def coverage_figure(bands: Sequence[CoverageBand], level: float) -> go.Figure | None:
    """Draw the coverage of the intervals with its Wilson bounds, and the nominal level."""
    if not bands:
        return None
    rows = [f"{band.name} ({band.networks})" for band in bands]
    figure = go.Figure(
        go.Scatter(
            x=[100 * band.share for band in bands],
            y=rows,
            mode="markers",
            marker={"color": [FRONT if band.low <= level <= band.high else BUDGET for band in bands], "size": 11},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [100 * (band.high - band.share) for band in bands],
                "arrayminus": [100 * (band.share - band.low) for band in bands],
                "color": GREY,
                "thickness": 1.5,
                "width": 4,
            },
            customdata=[[band.inside, band.networks, 100 * band.half_width_rel] for band in bands],
            hovertemplate=(
                "%{customdata[0]} of %{customdata[1]} held: %{x:.0f} %<br>"
                "typical interval: up to +%{customdata[2]:.0f} %<extra></extra>"
            ),
            showlegend=False,
        )
    )
    figure.add_vline(
        x=100 * level,
        line={"color": INK, "width": 1, "dash": "dash"},
        annotation={"text": f"nominal {level:.0%}", "font": {"size": 12, "color": INK}, "yanchor": "bottom"},
        annotation_position="top",
    )
    style(figure, "intervals that held, %", None, height=max(240, 120 + 40 * len(rows)))
    least = min(100 * band.low for band in bands)
    figure.update_xaxes(range=[max(0.0, min(least, 100 * level) - 5), 101])
    figure.update_yaxes(type="category", autorange="reversed")
    return figure


def position_figure(readings: Sequence[Reading]) -> go.Figure | None:
    """Draw the position of each measured latency in its interval: -1 and 1 are the ends, 0 the prediction."""
    places = [_place(reading) for reading in readings if reading.measured_ms is not None]
    if not places:
        return None
    shown = [max(-2.45, min(2.45, place)) for place in places]
    figure = go.Figure(
        go.Histogram(
            x=shown,
            xbins={"start": -2.5, "end": 2.5, "size": 0.25},
            marker={"color": FRONT, "line": {"color": "white", "width": 1}},
            hovertemplate="%{y} networks<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_vrect(x0=-1, x1=1, fillcolor=INK, opacity=0.06, line_width=0, layer="below")
    style(figure, "measured less predicted, in half widths of the interval", "networks", height=280)
    figure.update_xaxes(
        range=[-2.5, 2.5], tickvals=[-2, -1, 0, 1, 2], ticktext=["≤ −2", "low end", "0", "high end", "≥ 2"]
    )
    return figure


def drift_figure(drift: Drift | None) -> go.Figure | None:
    """Draw the reference network around each measurement, and networks measured again, relative to their medians, over time."""
    if drift is None:
        return None
    figure = go.Figure()
    for noisy, name, colour in ((False, "reference network", FRONT), (True, "reference, marked noisy", MEASURED)):
        group = [item for item in drift.references if item.noisy is noisy]
        if group:
            figure.add_trace(
                go.Scatter(
                    x=[item.started_at for item in group],
                    y=[100 * (item.reference_ms / drift.reference_ms - 1.0) for item in group],
                    mode="markers",
                    marker={"color": colour, "size": 6, "opacity": 0.75},
                    name=name,
                    hovertemplate="%{x}<br>%{y:+.1f} %<extra>reference</extra>",
                )
            )
    for index, item in enumerate(drift.repeated):
        figure.add_trace(
            go.Scatter(
                x=[item.first_at, item.last_at],
                y=[0.0, 100 * item.change_rel],
                mode="lines+markers",
                line={"color": GREY, "width": 1},
                marker={"color": GREY, "size": 6, "symbol": "diamond"},
                name="a network measured again, against the first time",
                legendgroup="repeated",
                showlegend=index == 0,
                hovertext=escaped([item.name])[0],
                hovertemplate="%{hovertext}<br>%{y:+.1f} %<extra></extra>",
            )
        )
    figure.add_hrect(y0=-5, y1=5, fillcolor=INK, opacity=0.05, line_width=0, layer="below")
    figure.add_hline(y=0, line={"color": FAINT, "width": 1})
    style(figure, None, "difference from the median, %", height=340)
    figure.update_xaxes(type="date")
    return figure


def _error_axis(figure: go.Figure, title: str, rows: Sequence[str], band: float) -> None:
    figure.add_vrect(x0=-band, x1=band, fillcolor=INK, opacity=0.06, line_width=0, layer="below")
    figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dash"})
    style(figure, title, None, height=max(240, 130 + 26 * len(rows)))
    figure.update_yaxes(type="category", autorange="reversed", categoryorder="array", categoryarray=list(rows))


def _place(reading: Reading) -> float:
    measured_ms = reading.raw_ms or reading.measured_ms or reading.predicted_ms
    off = math.log(measured_ms / reading.predicted_ms)
    end = reading.high_ms if off > 0 else reading.low_ms
    reach = abs(math.log(end / reading.predicted_ms))
    if not off:
        return 0.0
    return off / reach if reach else math.copysign(math.inf, off)


def _hover(reading: Reading) -> str:
    lines = escaped([f"{reading.name}"] + ([f"family {reading.family}"] if reading.family else []))
    lines[0] = f"<b>{lines[0]}</b>"
    low, high = text.milliseconds(reading.low_ms), text.milliseconds(reading.high_ms)
    lines.append(f"predicted {text.milliseconds(reading.predicted_ms)} ms [{low}, {high}]")
    times = f", {reading.measurements} times" if reading.measurements > 1 else ""
    lines.append(f"measured {text.milliseconds(reading.measured_ms)} ms{times} ({reading.error_rel or 0.0:+.1%})")
    lines += ["every measurement was noisy"] if reading.noisy else []
    lines += [f"{reading.coverage:.0%} of its time in known kinds"] if reading.coverage < 0.995 else []
    return "<br>".join(lines)


def _log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks at 1, 2, 5 in each decade between the ends."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside, [f"{tick:g}" for tick in inside]
