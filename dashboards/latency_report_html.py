"""The latency model's report as one HTML file: is it right, where is it wrong, and what to measure next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

import plotly.graph_objects as go

from dashboards import latency_report_figures as figures
from dashboards import tables, text
from dashboards.latency_report_tables import (
    family_table,
    member_table,
    next_table,
    reading_table,
    repeated_table,
    worst_table,
)
from dashboards.page import figure_box, whole_page
from hw_latency_model.report.latency_report import LatencyReport, Reading
from search_spaces.files import atomic_path

_LONG_TABLE = 12
_QUALITY = {
    "networks": "networks the model was fitted on",
    "median_error_rel": "median error, each network left out in turn",
    "within10": "within 10 % of measured, left out in turn",
    "coverage": "intervals that held, left out in turn",
    "noise_rel": "noise of a measurement",
    "reference_ms": "reference network, ms",
    "speed_exponent": "slowdown of networks against the reference's, as a power",
    "reference_drift_rel": "spread of the reference while measuring",
    "families": "families told apart",
    "family_error_rel": "median error, each family left out in turn",
    "family_within10": "within 10 % of measured, family left out",
}
_OF_REFERENCE = ("reference_ms", "speed_exponent", "reference_drift_rel")
_OF_FAMILIES = ("families", "family_error_rel", "family_within10")
_SHARES = (
    "median_error_rel",
    "within10",
    "coverage",
    "noise_rel",
    "reference_drift_rel",
    "family_error_rel",
    "family_within10",
)


def write_latency_report(path: Path, report: LatencyReport, *, written_at: datetime | None = None) -> Path:
    """Write the report as one self-contained page and return its path.

    Args:
        path: the .html file; replaced atomically, folders are made.
        written_at: the time stamp; now where None.

    Raises:
        UserError: the file cannot be written.
    """
    drawn: dict[str, go.Figure] = {}
    body = [
        _headline(report, written_at or datetime.now()),
        "<main>",
        _next_section(report),
        _members_section(report.members, drawn),
        _parity_section(report, drawn),
        _coverage_section(report, drawn),
        _kernel_section(report, drawn),
        _drift_section(report, drawn),
        _model_section(report),
        "</main>",
        _footer(report),
    ]
    page = whole_page(f"Latency model of {report.device}", "\n".join(part for part in body if part), drawn)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _headline(report: LatencyReport, written_at: datetime) -> str:
    about = [
        f"precision: {report.precision}",
        f"fingerprint {report.fingerprint_id}",
        f"fitted {report.fitted_at[:16].replace('T', ' ')}",
        f"written {written_at:%Y-%m-%d %H:%M}",
    ]
    tiles = [(str(report.measurements), "measurements")]
    if report.errors is not None:
        errors, band = report.errors, report.coverage[0]
        tiles += [
            (f"{errors.median_error_rel:.1%}", f"median error of {errors.networks} networks"),
            (f"{errors.within10:.0%}", "within 10 % of measured"),
            (f"{band.share:.0%}", f"intervals held, nominal {report.level:.0%}"),
            (f"+{band.half_width_rel:.0%}", "a typical interval's high end"),
        ]
    if report.stranger_errors is not None:
        tiles.append((f"{report.stranger_errors.median_error_rel:.1%}", "median error, whole family unseen"))
    elif report.quality.get("networks"):
        tiles += [
            (str(report.quality["networks"]), "networks the model was fitted on"),
            (f"{report.quality['median_error_rel']:.1%}", "median error there, left out in turn"),
            (f"{report.quality['coverage']:.0%}", f"intervals held there, nominal {report.level:.0%}"),
        ]
    if report.noise_rel is not None:
        tiles.append((f"{report.noise_rel:.1%}", "median noise of a measurement"))
    if report.drift is not None:
        tiles.append((f"{report.drift.spread_rel:.1%}", "spread of the reference network"))
    boxes = "".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in tiles)
    mark = '<span class="mark good">calibrated</span>'
    note = ""
    if not report.calibrated:
        mark = '<span class="mark bad">not calibrated</span>'
        note = (
            '<p class="note"><b>Nothing of this model was measured on your device.</b> '
            f"{escape(report.provenance or 'Where its numbers come from was not stated.')}</p>"
        )
    return (
        f'<header><div><h1>Latency model of {escape(report.device)} {mark}</h1><div class="soft">'
        f'{escape(" · ".join(about))}</div><div class="tiles">{boxes}</div>{note}</div></header>'
    )


def _next_section(report: LatencyReport) -> str:
    parts = ["<section><h2>What to measure next</h2>"]
    if report.advice:
        items = "".join(f"<li>{escape(_capital(sentence))}</li>" for sentence in report.advice)
        parts.append(f"<ul>{items}</ul>")
    if report.next_measurements:
        parts.append('<p class="soft">Networks that would narrow the model\'s intervals most, best first.</p>')
        parts.append(next_table(report.next_measurements))
    if not report.advice and not report.next_measurements:
        parts.append(tables.empty("Nothing stands out: measure the networks that you mean to use."))
    return "".join([*parts, "</section>"])


def _members_section(members: Sequence[Reading], drawn: dict[str, go.Figure]) -> str:
    if not members:
        return ""
    parts = ["<section><h2>The front, predicted and measured</h2>"]
    measured = [member for member in members if member.measured_ms is not None]
    if not measured:
        parts.append('<p class="soft">None of these networks has been measured on the device yet.</p>')
    else:
        inside = sum(member.inside is True for member in measured)
        parts.append(
            f'<p class="soft">{len(measured)} of {len(members)} measured; {inside} of {len(measured)} inside the '
            "interval that was predicted before.</p>"
        )
    figure = figures.parity_figure(members)
    if figure is not None:
        parts.append(f'<div style="max-width:640px">{figure_box("members", figure, drawn)}</div>')
    parts.append(member_table(members))
    return "".join([*parts, "</section>"])


def _parity_section(report: LatencyReport, drawn: dict[str, go.Figure]) -> str:
    parts = ["<section><h2>Predicted against measured</h2>"]
    figure = figures.parity_figure(report.parity)
    if figure is None or report.errors is None:
        parts.append(tables.empty(_nothing_compared(report)))
        return "".join([*parts, "</section>"])
    errors = report.errors
    parts.append(
        f'<p class="soft">{errors.networks} networks, {escape(report.checked)}. Bars are the {report.level:.0%} '
        "intervals. Latencies are brought to the device's usual speed by the reference network that ran around each."
        f"{_stranger_words(report)}</p>"
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


def _coverage_section(report: LatencyReport, drawn: dict[str, go.Figure]) -> str:
    figure, places = figures.coverage_figure(report.coverage, report.level), figures.position_figure(report.parity)
    if figure is None or places is None:
        return ""
    band = report.coverage[0]
    return (
        "<section><h2>Do the intervals mean what they say?</h2>"
        f'<p class="soft">{band.inside} of {band.networks} measured latencies lie in the interval predicted for them. '
        f"With so few networks, the true share lies between {band.low:.0%} and {band.high:.0%} (bars: 95 % bounds). "
        "Right: where in its interval each measurement fell.</p>"
        f'<div class="pair"><div>{figure_box("coverage", figure, drawn)}</div>'
        f"<div>{figure_box('places', places, drawn)}</div></div></section>"
    )


def _kernel_section(report: LatencyReport, drawn: dict[str, go.Figure]) -> str:
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
            f"{figures.FAR_OFF_PERCENT} %.</p>"
        )
        parts.append(figure_box("kinds", figure, drawn))
        parts.append("<h3>Where model and profile disagree most</h3>")
        parts.append(worst_table(report.worst_kernels))
    if report.little_known:
        parts.append("<h3>Kinds with few measurements or none</h3>")
        columns = [
            tables.Column("kind", "name"),
            tables.Column("networks measured", "number"),
            tables.Column("front members that have it", "number"),
        ]
        parts.append(
            tables.table(columns, [[row.kind, str(row.networks), str(row.wanted_by)] for row in report.little_known])
        )
    return "".join([*parts, "</section>"])


def _drift_section(report: LatencyReport, drawn: dict[str, go.Figure]) -> str:
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


def _model_section(report: LatencyReport) -> str:
    absent = {
        name
        for name in report.quality
        if (name in _OF_REFERENCE and not report.quality.get("reference_ms"))
        or (name in _OF_FAMILIES and report.quality.get("families", 1) < 2)
    }
    quality = {
        _QUALITY.get(name, name.replace("_", " ")): f"{value:.1%}" if name in _SHARES else value
        for name, value in report.quality.items()
        if value is not None and name not in absent
    }
    parts = ["<section><h2>The model</h2>"]
    if report.provenance and report.calibrated:
        parts.append(f"<p>{escape(report.provenance)}</p>")
    parts.append(f'<div class="pair"><div><h3>When it was fitted</h3>{tables.facts(quality)}</div>')
    parts.append(f"<div><h3>What it speaks for</h3>{tables.facts(report.fingerprint)}</div></div>")
    if report.without_kernels:
        parts.append(
            f'<p class="note">{report.without_kernels} measurements were kept without their kernels and are left out.</p>'
        )
    return "".join([*parts, "</section>"])


def _footer(report: LatencyReport) -> str:
    return (
        "<footer><p>Latency: one image, median of many runs. Error: predicted less measured, as a share of measured. An "
        f"interval holds where the latency as it was measured, noise and all, lies in it; {report.level:.0%} should. "
        "Measurements of other fingerprints are never mixed in.</p></footer>"
    )


def _nothing_compared(report: LatencyReport) -> str:
    if not report.measurements:
        return "There are no measurements of this device and set-up yet, so nothing could be compared."
    if report.without_kernels == report.measurements:
        return "The measurements were kept without their kernels, so nothing could be predicted for them."
    return f"Nothing was compared: {report.checked}."


def _stranger_words(report: LatencyReport) -> str:
    errors = report.stranger_errors
    if errors is None:
        return ""
    return (
        f" Predicted by models that saw nothing of a network's whole family, the median error is "
        f"{errors.median_error_rel:.1%}, and {errors.inside} of {errors.networks} intervals hold."
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
