"""Plotly figures, HTML reports, the SVG of a front, and optuna-dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces._common.lazy import lazy_exports

if TYPE_CHECKING:
    from dashboards.picture import (
        Baseline as Baseline,
        front_svg as front_svg,
        write_front_picture as write_front_picture,
    )
    from dashboards.study_report.inputs import ReportInputs as ReportInputs
    from dashboards.study_report.report import write_report as write_report
    from dashboards.web import (
        make_server as make_server,
        serve as serve,
        update_study_page as update_study_page,
        upload_bundle as upload_bundle,
    )

# plotly and optuna-dashboard are slow to import.
__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "picture": ("Baseline", "front_svg", "write_front_picture"),
        "study_report.inputs": ("ReportInputs",),
        "study_report.report": ("write_report",),
        "web": ("make_server", "serve", "update_study_page", "upload_bundle"),
    },
)
