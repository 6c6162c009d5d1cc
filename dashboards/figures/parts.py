"""Shared parts of figures: colours, ranges, hover texts, intervals, and styles of axes and legends."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go

from dashboards import text
from objectives.objective import METRICS
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord

FRONT, MEASURED, GREY, FAINT, BUDGET, INK, GRID = (
    "#2457d6",
    "#e4690b",
    "#8a94a6",
    "#c3cad5",
    "#c02c3a",
    "#1f2937",
    "#e8ebf0",
)


MOST_POINTS = 600
"""More points of a kind are drawn as densities."""
DENSITY_CELLS = (70, 44)


def hover_text(record: TrialRecord) -> str:
    """Format a trial for a hover text, in plotly's subset of HTML, with external values escaped."""
    lines = [f"<b>Trial {record.number}</b>", *escaped(text.network(record).split(" · "))]
    lines += escaped(
        f"{name} {text.value_text(record.params[name])}"
        for name in ("learning_rate", "weight_decay")
        if name in record.params
    )
    if record.parent_trial is not None:
        lines.append(f"trained on from trial {record.parent_trial}")
    if record.score is not None:
        score = record.score
        lines.append(f"mIoU {text.miou(score.val_miou)} at epoch {score.epoch} of {score.epochs_total}")
        if score.float_miou is not None:
            lines.append(f"{text.miou(score.float_miou)} in float, before {html.escape(score.precision)}")
    if record.latency_ms is not None:
        lines.append(f"predicted {text.milliseconds(record.latency_ms)} ms {text.interval(record)}")
    lines += escaped(f"{METRICS[name].label} {METRICS[name].text(cost.value)}" for name, cost in record.costs.items())
    if record.val_dice is not None:
        lines.append(f"Dice by image {text.miou(record.val_dice)}")
    if record.robust_miou is not None:
        lines.append(f"mIoU on corrupted images {text.miou(record.robust_miou)}")
    if record.measured_ms is not None:
        lines.append(f"measured {text.milliseconds(record.measured_ms)} ms")
    if record.score is not None:
        lines.append(f"{text.count(record.score.macs)} MACs, {text.count(record.score.params)} parameters")
    return "<br>".join(lines)


def spread(records: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """Choose up to ``most`` records evenly, the first and the last among them."""
    if len(records) <= most:
        return list(records)
    step = (len(records) - 1) / (most - 1)
    return [records[round(index * step)] for index in range(most)]


def density(
    x: Sequence[float], y: Sequence[float], ranges: tuple[tuple[float, float], tuple[float, float]], name: str
) -> go.Heatmap:
    """Number of points by cell of a grid, in place of points that would cover each other; an empty cell is blank."""
    counts, across, up = np.histogram2d(x, y, bins=DENSITY_CELLS, range=ranges)
    return go.Heatmap(
        x=((across[1:] + across[:-1]) / 2).tolist(),
        y=((up[1:] + up[:-1]) / 2).tolist(),
        z=[[math.log10(count) if count else None for count in row] for row in counts.T.tolist()],
        customdata=counts.T.astype(int).tolist(),
        colorscale=[[0, "#e3e7ed"], [1, "#5b6576"]],
        showscale=False,
        hoverongaps=False,
        hovertemplate="%{customdata} networks near %{x:.3g}, %{y:.3f}<extra></extra>",
        name=name,
        showlegend=True,
    )


def axis_ranges(
    records: Sequence[TrialRecord], latency_budget_ms: float | None
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Compute latency and mIoU ranges of all complete trials, measurements and the budget; None without complete trials.

    Latency starts at 0, so that ratios are visible.
    """
    shown = [record for record in records if record.complete]
    if not shown:
        return None
    latencies = [value for r in shown for value in (r.latency_ms, r.measured_ms) if value is not None]
    widest = max(latencies)
    # A very wide interval may exceed the plot; a point may not.
    highs = [min(r.estimate.high_ms, 1.5 * widest) for r in shown if r.estimate is not None]
    right = max([*latencies, *highs])
    if latency_budget_ms is not None and latency_budget_ms <= 3 * right:
        right = max(right, latency_budget_ms)
    scores = [record.val_miou for record in shown if record.val_miou is not None]
    low, high = min(scores), max(scores)
    pad = max(0.1 * (high - low), 0.01)
    return (0.0, 1.08 * right), (max(0.0, low - pad), min(1.0, high + 1.5 * pad))


def staircase(front: ParetoFront, right: float, bottom: float) -> list[tuple[float, float]]:
    """Corners of the border of the dominated region, from the fastest member down to the right edge."""
    corners: list[tuple[float, float]] = []
    for record in front.records:
        if record.latency_ms is None or record.val_miou is None:
            continue
        corners.append((record.latency_ms, corners[-1][1] if corners else bottom))
        corners.append((record.latency_ms, record.val_miou))
    if corners:
        corners.append((max(right, corners[-1][0]), corners[-1][1]))
    return corners


def escaped(lines: Iterable[str]) -> list[str]:
    # Plotly's labels support only a few entities, without &quot;.
    return [html.escape(line, quote=False) for line in lines]


def wrapped(reason: str | None, width: int = 60) -> str:
    return "<br>".join(escaped(textwrap.wrap(reason or "", width)))


def points(
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


def interval_lengths(records: Sequence[TrialRecord]) -> tuple[list[float], list[float]]:
    """Lengths of the interval below and above each estimate, in ms; 0 without an estimate."""
    estimates = [record.estimate for record in records]
    below = [max(0.0, e.latency_ms - e.low_ms) if e else 0.0 for e in estimates]
    above = [max(0.0, e.high_ms - e.latency_ms) if e else 0.0 for e in estimates]
    return below, above


def interval_bars(records: Sequence[TrialRecord], colour: str) -> dict[str, object]:
    below, above = interval_lengths(records)
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "color": colour,
        "thickness": 1.3,
        "width": 4,
    }


def whole_numbers(last: int) -> dict[str, object]:
    """Integer ticks of an axis up to ``last``; plotly would place some at fractions of a short one."""
    return {"dtick": 1} if last <= 12 else {}


def style(figure: go.Figure, x_title: str | None, y_title: str | None, *, height: int = 400) -> None:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 62, "r": 24, "t": 46, "b": 60},
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
