"""Figures of the search's progress: hypervolume over trials and hours, and trials over places. None without anything to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go

from dashboards import text
from dashboards.figures.parts import BUDGET, FAINT, FRONT, GREY, escaped, hover_text, style, whole_numbers
from objectives.pareto import ParetoFront, hypervolume_history
from objectives.schedule import Schedule
from objectives.trial_record import Outcome, TrialRecord

_ORDERS = 40
_MOST_BARS = 400
_BINS = 120
_COLOURS = {
    Outcome.FINISHED: (FRONT, "trained to the end"),
    Outcome.STOPPED: (GREY, "stopped early"),
    Outcome.FAILED: (BUDGET, "failed"),
}


@dataclass(frozen=True)
class RandomBaseline:
    """Hypervolume of a study's random start in random order.

    Attributes:
        mean, low, high: after each trial of the start: mean, and the 10th and 90th percentile, over random orders.
    """

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def random_baseline(records: Sequence[TrialRecord], front: ParetoFront, startup_trials: int) -> RandomBaseline | None:
    """Return the baseline of the first ``startup_trials`` trained trials; None where none of them was trained to the end.

    Their networks were drawn without a model. A trial that was stopped early takes its turn and adds nothing.
    """
    trained = [r for r in records if r.score is not None and r.duplicate_of is None and r.parent_trial is None]
    start = sorted(trained, key=lambda record: record.number)[:startup_trials]
    if not any(record.complete for record in start):
        return None
    rng, curves = np.random.default_rng(0), []
    for _ in range(_ORDERS):
        order = [replace(start[index], number=at) for at, index in enumerate(rng.permutation(len(start)))]
        gained = dict(hypervolume_history(order, front.reference_point, front.objectives))
        curves.append(np.maximum.accumulate([gained.get(at, 0.0) for at in range(len(order))]))
    low, mean, high = np.percentile(curves, 10, axis=0), np.mean(curves, axis=0), np.percentile(curves, 90, axis=0)
    return RandomBaseline(tuple(mean.tolist()), tuple(low.tolist()), tuple(high.tolist()))


def hypervolume_figure(
    records: Sequence[TrialRecord], front: ParetoFront, *, baseline: RandomBaseline | None = None
) -> go.Figure | None:
    """Draw the hypervolume of all complete trials up to each trial, by the front's objectives and reference point."""
    history = hypervolume_history(records, front.reference_point, front.objectives)
    if not history:
        return None
    last = max(record.number for record in records)
    figure = go.Figure()
    if baseline is not None:
        started = [r.number for r in records if r.score is not None and r.duplicate_of is None][: len(baseline.mean)]
        for bound, name, fill in ((baseline.low, "", None), (baseline.high, "80 % of random orders", "tonexty")):
            figure.add_trace(
                go.Scatter(
                    x=started,
                    y=bound,
                    mode="lines",
                    line={"width": 0},
                    fill=fill,
                    fillcolor="rgba(138,148,166,0.22)",
                    hoverinfo="skip",
                    name=name,
                    showlegend=bool(name),
                )
            )
        dashed = {"color": GREY, "width": 1.5, "dash": "dash"}
        at, held = [*started, last], [*baseline.mean, baseline.mean[-1]]
        figure.add_trace(go.Scatter(x=at, y=held, mode="lines", line=dashed, name="random start alone"))
    numbers, values = _steps([*history, (last, history[-1][1])])
    figure.add_trace(_volume(numbers, values, "up to trial %{x}: %{y:.4g}"))
    style(figure, "trial", escaped([text.volume_name(front.objectives)])[0])
    figure.update_xaxes(whole_numbers(last), range=[0, max(1.03 * last, 1)])
    figure.update_yaxes(rangemode="tozero")
    return figure


def hypervolume_hours_figure(schedule: Schedule, front: ParetoFront) -> go.Figure | None:
    """Draw the hypervolume over hours of searching; None where no trial has a time."""
    hours, values = hours_history(schedule, front)
    if not hours:
        return None
    figure = go.Figure(_volume(hours, values, "after %{x:.2f} h: %{y:.4g}"))
    style(figure, "hours of searching", escaped([text.volume_name(front.objectives)])[0])
    figure.update_xaxes(range=[0, 1.03 * schedule.hours])
    figure.update_yaxes(rangemode="tozero")
    return figure


def hours_history(schedule: Schedule, front: ParetoFront) -> tuple[list[float], list[float]]:
    """Return hours of searching and the hypervolume reached, where it grew and at the end; empty without a complete trial."""
    ended = sorted(schedule.occupations, key=lambda item: item.end_h)
    order = [replace(item.record, number=at) for at, item in enumerate(ended)]
    history = hypervolume_history(order, front.reference_point, front.objectives)
    if not history:
        return [], []
    return _steps([(ended[at].end_h, volume) for at, volume in history] + [(schedule.hours, history[-1][1])])


def schedule_figure(schedule: Schedule) -> go.Figure | None:
    """Draw the trials as bars over their places, or, where they are many, the share of busy places over time."""
    if not schedule.occupations or schedule.hours <= 0:
        return None
    if len(schedule.occupations) > _MOST_BARS:
        return _busy_figure(schedule)
    figure = go.Figure()
    for outcome, (colour, name) in _COLOURS.items():
        chosen = [item for item in schedule.occupations if item.record.outcome == outcome]
        if chosen:
            figure.add_trace(
                go.Bar(
                    base=[item.start_h for item in chosen],
                    x=[item.end_h - item.start_h for item in chosen],
                    y=[item.place + 1 for item in chosen],
                    orientation="h",
                    marker={"color": colour, "opacity": 0.8, "line": {"color": "white", "width": 1}},
                    name=name,
                    hovertext=[hover_text(item.record) for item in chosen],
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
    style(figure, "hours of searching", "place", height=max(220, 150 + 34 * schedule.places))
    figure.update_layout(barmode="overlay", bargap=0.25)
    figure.update_xaxes(range=[0, 1.01 * schedule.hours])
    figure.update_yaxes(dtick=1, range=[schedule.places + 0.6, 0.4], showgrid=False)
    return figure


def _busy_figure(schedule: Schedule) -> go.Figure:
    edges = np.linspace(0.0, schedule.hours, _BINS + 1)
    starts = np.array([item.start_h for item in schedule.occupations])[:, None]
    ends = np.array([item.end_h for item in schedule.occupations])[:, None]
    busy = np.clip(np.minimum(ends, edges[1:]) - np.maximum(starts, edges[:-1]), 0, None).sum(axis=0)
    share = busy / (edges[1] - edges[0]) / schedule.places
    figure = go.Figure(
        go.Scatter(
            x=((edges[1:] + edges[:-1]) / 2).round(4).tolist(),
            y=share.round(4).tolist(),
            mode="lines",
            line={"color": FRONT, "width": 1.5, "shape": "hvh"},
            fill="tozeroy",
            fillcolor="rgba(36,87,214,0.12)",
            hovertemplate="after %{x:.2f} h: %{y:.0%} of the places busy<extra></extra>",
            showlegend=False,
        )
    )
    style(figure, "hours of searching", "places busy", height=260)
    figure.add_hline(y=1, line={"color": FAINT, "width": 1})
    figure.update_yaxes(range=[0, 1.08], tickformat=".0%")
    return figure


def _volume(x: Sequence[float], y: Sequence[float], hover: str) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": FRONT, "width": 2, "shape": "hv"},
        fill="tozeroy",
        fillcolor="rgba(36,87,214,0.06)",
        hovertemplate=f"{hover}<extra></extra>",
        name="this study",
    )


def _steps(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Keep the points at which a value changes, and the last one."""
    kept = [point for at, point in enumerate(points) if at in (0, len(points) - 1) or point[1] != points[at - 1][1]]
    return [x for x, _ in kept], [y for _, y in kept]
