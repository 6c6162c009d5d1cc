"""The plotly figures. Each function returns None where there is nothing to draw; the caller then says so in words."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from dashboards import text
from objectives.pareto import ParetoFront, hypervolume_history
from objectives.trial_record import REFUSED, STOPPED, TrialRecord

FRONT, MEASURED, GREY, FAINT, BUDGET, INK, GRID = (
    "#2457d6",
    "#e4690b",
    "#8a94a6",
    "#c3cad5",
    "#c02c3a",
    "#1f2937",
    "#e8ebf0",
)


def hover_text(record: TrialRecord) -> str:
    """All there is to know of a trial, in plotly's subset of HTML, with what came from outside escaped."""
    lines = [f"<b>Trial {record.number}</b>", *_escaped(text.network(record).split(" · "))]
    lines += _escaped(
        f"{name} {text.value_text(record.params[name])}"
        for name in ("learning_rate", "weight_decay")
        if name in record.params
    )
    if record.score is not None:
        score = record.score
        lines.append(f"mIoU {text.miou(score.val_miou)} at epoch {score.epoch} of {score.epochs_total}")
    if record.latency_ms is not None:
        lines.append(f"predicted {text.milliseconds(record.latency_ms)} ms {text.interval(record)}")
    if record.measured_ms is not None:
        lines.append(f"measured {text.milliseconds(record.measured_ms)} ms")
    if record.score is not None:
        lines.append(f"{text.count(record.score.macs)} MACs, {text.count(record.score.params)} parameters")
    return "<br>".join(lines)


def axis_ranges(
    records: Sequence[TrialRecord], latency_budget_ms: float | None
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Latency and mIoU ranges that show every complete trial, its measurement and the budget; None without one.

    Latency starts at 0, so that a ratio of speeds can be seen.
    """
    shown = [record for record in records if record.complete]
    if not shown:
        return None
    latencies = [value for r in shown for value in (r.latency_ms, r.measured_ms) if value is not None]
    widest = max(latencies)
    # A very wide interval may leave the picture; a point may not.
    highs = [min(r.latency_high_ms, 1.5 * widest) for r in shown if r.latency_high_ms is not None]
    right = max([*latencies, *highs])
    if latency_budget_ms is not None and latency_budget_ms <= 3 * right:
        right = max(right, latency_budget_ms)
    scores = [record.val_miou for record in shown if record.val_miou is not None]
    low, high = min(scores), max(scores)
    pad = max(0.1 * (high - low), 0.01)
    return (0.0, 1.08 * right), (max(0.0, low - pad), min(1.0, high + 1.5 * pad))


def staircase(front: ParetoFront, right: float, bottom: float) -> list[tuple[float, float]]:
    """Corners of the border of what the front dominates, from the fastest member's foot to the right edge."""
    corners: list[tuple[float, float]] = []
    for record in front.records:
        if record.latency_ms is None or record.val_miou is None:
            continue
        corners.append((record.latency_ms, corners[-1][1] if corners else bottom))
        corners.append((record.latency_ms, record.val_miou))
    if corners:
        corners.append((max(right, corners[-1][0]), corners[-1][1]))
    return corners


def pareto_figure(
    records: Sequence[TrialRecord], front: ParetoFront, *, latency_budget_ms: float | None = None
) -> go.Figure | None:
    """mIoU against latency: all complete trials, the front with its intervals, what was measured, the budget."""
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
        figure.add_trace(_points(stopped, "stopped early (mIoU when stopped)", GREY, "x-thin-open", 7, hidden=True))
    if off_front:
        figure.add_trace(_points(off_front, "trained to the end", GREY, "circle", 8, opacity=0.65))
    refused = [r for r in records if r.outcome == REFUSED and r.latency_ms is not None and r.latency_ms < right]
    if refused:
        rug = _points(refused, "refused for latency, not trained", BUDGET, "line-ns-open", 9, opacity=0.7)
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
        trace = _points(on_front, "Pareto front, predicted", FRONT, "circle", 11)
        trace.error_x = _interval_bars(on_front, FRONT)
        trace.mode = "markers+text"
        trace.text = [f"{record.number}" for record in on_front]
        trace.textposition = _label_places(on_front, right - left, top - bottom)
        trace.textfont = {"color": FRONT, "size": 12}
        figure.add_trace(trace)
    if measured:
        trace = _points(measured, "measured on the device", MEASURED, "diamond-open", 10)
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
    _style(figure, "latency, ms (predicted, with its interval)", "validation mIoU", height=520)
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
                text=[f"<b>Trial {r.number}</b> stopped<br>{_wrapped(r.reason)}" for r in stopped],
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
    _style(figure, "epoch", "validation mIoU")
    figure.update_yaxes(rangemode="tozero")
    return figure


def predicted_vs_measured_figure(records: Sequence[TrialRecord]) -> go.Figure | None:
    """Predicted latency with its interval against the measured one, with the diagonal and a band of 10 %."""
    known = [r for r in records if r.measured_ms is not None and r.latency_ms is not None and r.reused_from is None]
    if not known:
        return None
    highs = [value for r in known for value in (r.latency_ms, r.measured_ms, r.latency_high_ms) if value is not None]
    end = 1.08 * max(highs)
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
            trace = _points(group, name, colour, "circle", 9)
            trace.x = [record.measured_ms for record in group]
            trace.y = [record.latency_ms for record in group]
            trace.error_y = _interval_bars(group, colour)
            figure.add_trace(trace)
    _style(figure, "measured latency, ms", "predicted latency, ms")
    figure.update_xaxes(range=[0, end])
    figure.update_yaxes(range=[0, end])
    return figure


def relative_error_figure(records: Sequence[TrialRecord]) -> go.Figure | None:
    """(predicted - measured) / measured by trial, and the interval on the same scale."""
    known = [r for r in records if text.relative_error(r) is not None and r.reused_from is None]
    if not known:
        return None
    known.sort(key=lambda record: record.measured_ms or 0.0)
    names = [f"trial {record.number}" for record in known]
    errors = [100 * (text.relative_error(record) or 0.0) for record in known]
    scale = [100 / (record.measured_ms or 1.0) for record in known]
    below, above = _interval_lengths(known)
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
    _style(figure, "prediction error, % of measured", None, height=max(260, 110 + 26 * len(known)))
    figure.update_yaxes(type="category", autorange="reversed")
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
    _style(figure, None, None, height=150 + 34 * len(members))
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_xaxes(type="category", tickangle=-35, showgrid=False)
    return figure


def hypervolume_figure(records: Sequence[TrialRecord], reference: tuple[float, float]) -> go.Figure | None:
    """Hypervolume of all that was complete up to each trial."""
    history = hypervolume_history(records, reference)
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
    _style(figure, "trial", "hypervolume, mIoU × ms")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _escaped(lines: Iterable[str]) -> list[str]:
    # Plotly's labels know only a few entities, &quot; is not one of them.
    return [html.escape(line, quote=False) for line in lines]


def _wrapped(reason: str | None, width: int = 60) -> str:
    return "<br>".join(_escaped(textwrap.wrap(reason or "", width)))


def _points(
    records: Sequence[TrialRecord],
    name: str,
    colour: str,
    symbol: str,
    size: int,
    *,
    opacity: float = 1.0,
    hidden: bool = False,
) -> go.Scatter:
    return go.Scatter(
        x=[record.latency_ms for record in records],
        y=[record.val_miou for record in records],
        mode="markers",
        name=name,
        marker={
            "color": colour,
            "symbol": symbol,
            "size": size,
            "opacity": opacity,
            "line": {"color": colour if symbol.endswith("open") else "white", "width": 1},
        },
        hovertext=[hover_text(record) for record in records],
        hovertemplate="%{hovertext}<extra></extra>",
        visible="legendonly" if hidden else True,
    )


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


def _interval_lengths(records: Sequence[TrialRecord]) -> tuple[list[float], list[float]]:
    """How far the interval reaches below and above the estimate, in ms; 0 without one."""
    known = [(r.latency_ms or 0.0, r.latency_low_ms, r.latency_high_ms) for r in records]
    below = [0.0 if low is None else max(0.0, middle - low) for middle, low, _ in known]
    above = [0.0 if high is None else max(0.0, high - middle) for middle, _, high in known]
    return below, above


def _interval_bars(records: Sequence[TrialRecord], colour: str) -> dict[str, object]:
    below, above = _interval_lengths(records)
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "color": colour,
        "thickness": 1.3,
        "width": 4,
    }


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


def _style(figure: go.Figure, x_title: str | None, y_title: str | None, *, height: int = 400) -> None:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 62, "r": 24, "t": 34, "b": 60},
        font={"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        legend={"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom", "font": {"size": 12}},
        hoverlabel={"bgcolor": "white", "bordercolor": FAINT, "font": {"color": INK, "size": 12}, "align": "left"},
        hovermode="closest",
    )
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": FAINT, "ticks": "outside", "tickcolor": FAINT}
    figure.update_xaxes(**axis, title={"text": x_title}, automargin=True)
    figure.update_yaxes(**axis, title={"text": y_title}, automargin=True)
