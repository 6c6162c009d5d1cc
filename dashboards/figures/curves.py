"""Figures of learning curves and of the hypervolume. None is returned if there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from dashboards import text
from dashboards.figures.parts import BUDGET, FAINT, FRONT, GREY, escaped, hover_text, style, whole_numbers, wrapped
from objectives.pareto import ParetoFront, hypervolume_history
from objectives.trial_record import Outcome, State, TrialRecord

Curve = tuple[tuple[int, float], ...]


def learning_curves_figure(
    records: Sequence[TrialRecord], front: ParetoFront, *, rungs: Sequence[int] = ()
) -> go.Figure | None:
    """Draw mIoU by epoch: the front's members in colour, the others thin and grey, a cross at an early stop. The curve of a final
    training continues that of the trial it started from."""
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
        if group:
            figure.add_trace(_joined_curves({r.number: curves[r.number] for r in group}, name, colour, dash))
    if stopped:
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
    shown = [record for record in front.records if record.curve]
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
    figure.update_xaxes(whole_numbers(last))
    figure.update_yaxes(rangemode="tozero")
    return figure


def hypervolume_figure(records: Sequence[TrialRecord], front: ParetoFront) -> go.Figure | None:
    """Draw the hypervolume of all complete trials up to each trial, by the front's objectives and reference point."""
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
    style(figure, "trial", escaped([text.volume_name(front.objectives)])[0])
    figure.update_xaxes(whole_numbers(last), range=[0, max(1.03 * last, 1)])
    figure.update_yaxes(rangemode="tozero")
    return figure


def _whole_curve(record: TrialRecord, by_number: Mapping[int, TrialRecord]) -> Curve:
    """Curve of a trial, after the epochs of its parent trial."""
    origin = None if record.parent_trial is None else by_number.get(record.parent_trial)
    if origin is None or not origin.curve:
        return record.curve
    start = _whole_curve(origin, by_number)[-1]
    return (start, *((start[0] + epoch, value) for epoch, value in record.curve))


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
