"""Figures of a network's predicted latency by kind of kernel and by layer."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboards import text
from dashboards.figures.parts import GREY, escaped, style

_MOST_LAYERS, _LONGEST_NAME = 24, 46
_ROW_PX, _HEAD_PX = 24, 90
_PALETTE = ("#2457d6", "#e4690b", "#14804a", "#8e44ad", "#b8860b", "#0e7c86", "#c02c3a", "#6b7280")

Kernels = Sequence[tuple[str, str, float]]
"""(layer, kind, ms) of every kernel."""


def kinds_figure(kernels: Kernels) -> go.Figure:
    """Draw the predicted time of each kind of kernel, the slowest first."""
    times = _by_kind(kernels)
    total = sum(times.values())
    counts = {kind: sum(other == kind for _, other, _ in kernels) for kind in times}
    return _bars(
        [kind.replace("_", " ") for kind in times],
        list(times.values()),
        [_colours(times)[kind] for kind in times],
        [f"{counts[kind]} kernels, {ms / total:.0%} of the latency" for kind, ms in times.items()],
    )


def layers_figure(kernels: Kernels) -> go.Figure:
    """Draw the predicted time of the slowest layers, in the colours of their kinds, and the sum of the others.

    Kernels of one kind in one layer are one bar.
    """
    colours = _colours(_by_kind(kernels))
    times: dict[tuple[str, str], float] = {}
    for name, kind, ms in kernels:
        times[name, kind] = times.get((name, kind), 0.0) + ms
    slowest = sorted(((name, kind, ms) for (name, kind), ms in times.items()), key=lambda kernel: -kernel[2])
    shown, rest = slowest[:_MOST_LAYERS], slowest[_MOST_LAYERS:]
    names = [_unique(at, name) for at, (name, _, _) in enumerate(shown)]
    values, hues = [ms for _, _, ms in shown], [colours[kind] for _, kind, _ in shown]
    hovers = [f"{name}: {kind.replace('_', ' ')}" for name, kind, _ in shown]
    if rest:
        names, values = [*names, f"{len(rest)} other layers"], [*values, sum(ms for _, _, ms in rest)]
        hues, hovers = [*hues, GREY], [*hovers, f"{len(rest)} layers, each faster than those above"]
    return _bars(names, values, hues, hovers)


def _bars(names: Sequence[str], values: Sequence[float], colours: Sequence[str], hovers: Sequence[str]) -> go.Figure:
    figure = go.Figure(
        go.Bar(
            x=[float(f"{value:.4g}") for value in values],
            y=escaped(names),
            orientation="h",
            marker={"color": list(colours)},
            text=[f"{text.milliseconds(value)} ms" for value in values],
            textposition="auto",
            hovertext=escaped(hovers),
            hovertemplate="%{hovertext}<br>%{x:.3g} ms<extra></extra>",
            showlegend=False,
        )
    )
    style(figure, "predicted time, ms", None, height=_HEAD_PX + _ROW_PX * len(names))
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return figure


def _by_kind(kernels: Kernels) -> dict[str, float]:
    times: dict[str, float] = {}
    for _, kind, ms in kernels:
        times[kind] = times.get(kind, 0.0) + ms
    return dict(sorted(times.items(), key=lambda pair: -pair[1]))


def _colours(times: dict[str, float]) -> dict[str, str]:
    return {kind: _PALETTE[min(at, len(_PALETTE) - 1)] for at, kind in enumerate(times)}


def _unique(at: int, name: str) -> str:
    """Name of a layer with its place, since layers may share one; the end of a long name tells more than its beginning."""
    short = name if len(name) <= _LONGEST_NAME else f"…{name[-_LONGEST_NAME + 1 :]}"
    return f"{at + 1}. {short}"
