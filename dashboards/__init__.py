"""What a person looks at: plotly figures, the HTML report, the picture of the README, and optuna-dashboard."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dashboards.picture import Baseline, front_svg, write_front_picture
    from dashboards.study_report.report import write_report
    from dashboards.web import make_server, serve, update_study_page, upload_bundle

__all__ = [
    "Baseline",
    "front_svg",
    "make_server",
    "serve",
    "update_study_page",
    "upload_bundle",
    "write_front_picture",
    "write_report",
]

# Looked up on first use: plotly and optuna-dashboard are slow to import, `paretoseg --help` must not wait for them.
_HOME = {
    "Baseline": "picture",
    "front_svg": "picture",
    "make_server": "web",
    "serve": "web",
    "update_study_page": "web",
    "upload_bundle": "web",
    "write_front_picture": "picture",
    "write_report": "study_report.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"dashboards.{_HOME[name]}"), name)
