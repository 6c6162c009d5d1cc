"""Figure of the importance of the dimensions, by objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.figures.parts import FRONT, INK, escaped, style
from objectives.importance import Importance

_ROW_PX, _HEAD_PX = 26, 110
PANEL_PX = 330


def importance_figure(found: Mapping[str, Sequence[Importance]]) -> go.Figure | None:
    """Draw a panel of bars with 90 % intervals for each objective; None without any.

    Args:
        found: importances by the objective's label.
    """
    shown = {label: list(items) for label, items in found.items() if items}
    if not shown:
        return None
    figure = make_subplots(
        rows=1, cols=len(shown), subplot_titles=escaped(shown), horizontal_spacing=min(0.16, 0.5 / len(shown))
    )
    for column, items in enumerate(shown.values(), 1):
        figure.add_trace(
            go.Bar(
                x=[item.share for item in items],
                y=escaped(item.name.replace("_", " ") for item in items),
                orientation="h",
                marker={"color": FRONT, "opacity": 0.75},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [max(item.high - item.share, 0.0) for item in items],
                    "arrayminus": [max(item.share - item.low, 0.0) for item in items],
                    "color": INK,
                    "thickness": 1.2,
                    "width": 4,
                },
                hovertemplate="%{y}: %{x:.0%} of the variance<extra></extra>",
                showlegend=False,
            ),
            row=1,
            col=column,
        )
    most = max(len(items) for items in shown.values())
    style(figure, "share of the variance", None, height=_HEAD_PX + _ROW_PX * most)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", nticks=5)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_annotations(font={"size": 14})
    return figure
