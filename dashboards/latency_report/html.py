"""Latency report as one HTML file: accuracy of the model, its largest errors, and suggested measurements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

import plotly.graph_objects as go

from dashboards import tables
from dashboards.latency_report import figures
from dashboards.latency_report.checks import coverage_section, drift_section, kernel_section, parity_section
from dashboards.latency_report.tables import member_table, next_table
from dashboards.page import figure_box, whole_page
from dashboards.study_report.model_facts import model_facts
from hw_latency_model.report.latency_report import LatencyReport, Reading
from search_spaces._common.files import atomic_path


def write_latency_report(path: Path, report: LatencyReport, *, written_at: datetime | None = None) -> Path:
    """Write the report as one self-contained page and return its path.

    Args:
        path: .html file; replaced atomically, missing folders are created.
        written_at: time stamp; None for the current time.

    Raises:
        UserError: the file cannot be written.
    """
    drawn: dict[str, go.Figure] = {}
    body = [
        _headline(report, written_at or datetime.now()),
        "<main>",
        _next_section(report),
        _members_section(report.members, drawn),
        parity_section(report, drawn),
        coverage_section(report, drawn),
        kernel_section(report, drawn),
        drift_section(report, drawn),
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
            (f"{errors.within10:.0%}", "within 10% of measured"),
            (f"{band.share:.0%}", f"intervals held, nominal {report.level:.0%}"),
            (f"+{band.half_width_rel:.0%}", "a typical interval's high end"),
        ]
    if report.held_out_family_errors is not None:
        tiles.append((f"{report.held_out_family_errors.median_error_rel:.1%}", "median error, whole family unseen"))
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
        f"{escape(' · '.join(about))}</div>{tables.tiles(tiles)}{note}</div></header>"
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


def _model_section(report: LatencyReport) -> str:
    parts = ["<section><h2>The model</h2>"]
    if report.provenance and report.calibrated:
        parts.append(f"<p>{escape(report.provenance)}</p>")
    parts.append(f'<div class="pair"><div><h3>When it was fitted</h3>{tables.facts(model_facts(report.quality))}</div>')
    parts.append(f"<div><h3>What it speaks for</h3>{tables.facts(report.fingerprint)}</div></div>")
    if report.without_kernels:
        parts.append(
            tables.note(f"{report.without_kernels} measurements were kept without their kernels and are left out.")
        )
    return "".join([*parts, "</section>"])


def _footer(report: LatencyReport) -> str:
    return (
        "<footer><p>Latency: one image, median of many runs. Error: predicted less measured, as a share of measured. An "
        f"interval holds where the latency as it was measured, noise and all, lies in it; {report.level:.0%} should. "
        "Measurements of other fingerprints are never mixed in.</p></footer>"
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
