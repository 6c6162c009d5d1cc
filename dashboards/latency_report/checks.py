"""Sections of the latency report: predictions against measurements, intervals, kernels, and drift of the device."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from dashboards import tables, text
from dashboards.latency_report import figures
from dashboards.latency_report.tables import family_table, reading_table, repeated_table, worst_table
from dashboards.page import figure_box
from hw_latency_model.report.latency_report import LatencyReport

_LONG_TABLE = 12


def parity_section(report: LatencyReport, drawn: dict[str, go.Figure]) -> str:
    """Section with predicted against measured latency, by network and by family."""
    parts = ["<section><h2>Predicted against measured</h2>"]
    figure = figures.parity_figure(report.parity)
    if figure is None or report.errors is None:
        parts.append(tables.empty(_nothing_compared(report)))
        return "".join([*parts, "</section>"])
    errors = report.errors
    parts.append(
        f'<p class="soft">{errors.networks} networks, {escape(report.checked)}. Bars are the {report.level:.0%} '
        "intervals. Latencies are converted to the device's median speed by the surrounding runs of the reference network."
        f"{_held_out_words(report)}</p>"
    )
    parts.append(f'<div class="pair"><div>{figure_box("parity", figure, drawn)}</div><div>')
    family = figures.family_figure(report.parity, report.families)
    if family is not None:
        parts.append("<h3>Error by family</h3>")
        parts.append(figure_box("families", family, drawn))
    parts.append("</div></div>")
    parts.append(tables.folded("Families as a table", family_table(report)))
    parts.append(tables.folded(f"All {len(report.parity)} networks", reading_table(report.parity)))
    return "".join([*parts, "</section>"])


def coverage_section(report: LatencyReport, drawn: dict[str, go.Figure]) -> str:
    """Section with the coverage of the intervals against the nominal level."""
    figure, places = figures.coverage_figure(report.coverage, report.level), figures.position_figure(report.parity)
    if figure is None or places is None:
        return ""
    band = report.coverage[0]
    return (
        "<section><h2>Do the intervals mean what they say?</h2>"
        f'<p class="soft">{band.inside} of {band.networks} measured latencies lie in the interval predicted for them. '
        f"With so few networks, the true share lies between {band.low:.0%} and {band.high:.0%} (bars: 95% bounds). "
        "Right: where in its interval each measurement fell.</p>"
        f'<div class="pair"><div>{figure_box("coverage", figure, drawn)}</div>'
        f"<div>{figure_box('places', places, drawn)}</div></div></section>"
    )


def kernel_section(report: LatencyReport, drawn: dict[str, go.Figure]) -> str:
    """Section with the predicted time of each kind of kernel against the device's profile."""
    parts = ["<section><h2>Kernels</h2>"]
    figure = figures.kind_figure(report.kinds)
    if figure is None:
        parts.append(
            tables.empty(
                "No measurement says how a network's time divides among its kernels, so kinds of kernel cannot be checked."
            )
        )
    else:
        parts.append(
            '<p class="soft">The time the fitted model gives each kernel, beside its share in the device\'s own profile. Errors '
            "of kernels may cancel in a network's total, and profilers burden small kernels; orange is off by more than "
            f"{figures.FAR_OFF_PERCENT}%.</p>"
        )
        parts.append(figure_box("kinds", figure, drawn))
        parts.append("<h3>Where model and profile disagree most</h3>")
        parts.append(worst_table(report.worst_kernels))
    if report.undersampled_kinds:
        parts.append("<h3>Kinds with few measurements or none</h3>")
        columns = [
            tables.Column("kind", "name"),
            tables.Column("networks measured", "number"),
            tables.Column("front members that have it", "number"),
        ]
        parts.append(
            tables.table(
                columns, [[row.kind, str(row.networks), str(row.wanted_by)] for row in report.undersampled_kinds]
            )
        )
    return "".join([*parts, "</section>"])


def drift_section(report: LatencyReport, drawn: dict[str, go.Figure]) -> str:
    """Section with the drift of the device, by its reference network."""
    figure = figures.drift_figure(report.drift)
    if figure is None or report.drift is None:
        return ""
    drift = report.drift
    sentence = (
        f"The reference network runs around every measurement: median {text.milliseconds(drift.reference_ms)} ms, spread "
        f"{drift.spread_rel:.1%}, from the first third to the last {drift.trend_rel:+.1%}."
    )
    if drift.median_repeat_rel is not None:
        count = len(drift.repeated)
        what = "1 network was" if count == 1 else f"{count} networks were"
        sentence += f" {what} measured again and changed by {drift.median_repeat_rel:.1%} (median)."
    parts = [
        f'<section><h2>Drift over time</h2><p class="soft">{escape(sentence)}</p>',
        figure_box("drift", figure, drawn),
    ]
    if drift.repeated:
        title = f"{len(drift.repeated)} measured more than once"
        body = repeated_table(drift.repeated)
        parts.append(tables.folded(title, body, is_open=len(drift.repeated) <= _LONG_TABLE))
    return "".join([*parts, "</section>"])


def _nothing_compared(report: LatencyReport) -> str:
    if not report.measurements:
        return "There are no measurements of this device and set-up yet, so nothing could be compared."
    if report.without_kernels == report.measurements:
        return "The measurements were kept without their kernels, so nothing could be predicted for them."
    return f"Nothing was compared: {report.checked}."


def _held_out_words(report: LatencyReport) -> str:
    errors = report.held_out_family_errors
    if errors is None:
        return ""
    return (
        f" Predicted by models that saw nothing of a network's whole family, the median error is "
        f"{errors.median_error_rel:.1%}, and {errors.inside} of {errors.networks} intervals hold."
    )
