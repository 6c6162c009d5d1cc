"""Self-contained HTML page: style, figures and scripts are inline, and nothing is loaded from the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from html import escape
from importlib import resources
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

_CONTENT_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def figure_box(name: str, figure: go.Figure, drawn: MutableMapping[str, Any], *, min_width_px: int = 0) -> str:
    """Create the element that ``figure`` is drawn in, and add the figure to ``drawn`` under ``name``. It scrolls horizontally on
    screens narrower than ``min_width_px``."""
    drawn[name] = figure
    style = f"min-height:{figure.layout.height}px" + (f";min-width:{min_width_px}px" if min_width_px else "")
    box = f'<div class="figure" id="{name}" style="{style}"></div>'
    return f'<div class="scroll">{box}</div>' if min_width_px else box


def whole_page(title: str, body: str, drawn: Mapping[str, go.Figure | dict[str, Any]]) -> str:
    """Assemble the source of the page.

    Args:
        title: plain text.
        body: escaped HTML, with a ``figure_box`` for each figure.
        drawn: figures of plotly, or JSON values of parallel coordinates, by name; without any, the page has no script.
    """
    here = resources.files("dashboards")
    style = here.joinpath("report.css").read_text(encoding="utf-8")
    scripts = ""
    if drawn:
        data = {name: json.loads(f.to_json()) if isinstance(f, go.Figure) else f for name, f in drawn.items()}
        # Only "<" could end the script element or open a comment; JSON allows it to be escaped.
        source = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        draw = "".join(here.joinpath(name).read_text(encoding="utf-8") for name in ("report.js", "parallel.js"))
        scripts = (
            f'<script type="application/json" id="figures">{source}</script>\n'
            f"<script>{get_plotlyjs()}</script>\n<script>{draw}</script>\n"
        )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_CONTENT_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · paretoseg</title>\n<style>\n{style}</style></head>\n"
        f"<body>\n{body}\n{scripts}</body></html>\n"
    )
