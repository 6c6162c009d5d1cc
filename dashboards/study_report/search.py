"""Sections of the report on the search: learning curves, choices, and accuracy of the predicted latencies."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import median

import plotly.graph_objects as go

from dashboards import tables, text
from dashboards.figures import choices as choice_figures, curves as curve_figures, latency as latency_figures
from dashboards.page import figure_box
from dashboards.study_report import trial_tables
from dashboards.study_report.inputs import ReportInputs
from dashboards.study_report.model_facts import model_facts
from objectives.pareto import ParetoFront
from objectives.rung_reliability import rung_reliability
from objectives.trial_record import Outcome, TrialRecord


def learning_section(
    records: Sequence[TrialRecord], front: ParetoFront, rungs: Sequence[int], drawn: dict[str, go.Figure]
) -> str:
    """Section with learning curves, epochs saved by early stopping, and the hypervolume by trial."""
    parts = ['<section><div class="pair"><div><h2>Learning curves</h2>']
    figure = curve_figures.learning_curves_figure(records, front, rungs=rungs)
    if figure is None:
        parts.append(tables.empty("No trial has reported an epoch yet."))
    else:
        stopped = sum(record.outcome == Outcome.STOPPED for record in records)
        epochs = [
            (r.score.epoch - r.score.cached_epochs, r.score.epochs_total)
            for r in records
            if r.score is not None and r.duplicate_of is None
        ]
        spent, full = sum(done for done, _ in epochs), sum(total for _, total in epochs)
        saved = (
            f" Training took {spent} epochs; training all of them to the end would have taken {full}."
            if stopped and full
            else ""
        )
        words = {0: "No trial was", 1: "1 trial was"}.get(stopped, f"{stopped} trials were")
        parts.append(tables.soft(f"{words} stopped early.{saved}{rung_words(records, rungs)}"))
        parts.append(figure_box("curves", figure, drawn))
    parts.append("</div><div><h2>Progress of the search</h2>")
    figure = curve_figures.hypervolume_figure(records, front)
    if figure is None:
        parts.append(tables.empty("The hypervolume starts with the first trial that is trained to the end."))
    else:
        parts.append(tables.soft("Hypervolume of the front as trials came in; where flat, nothing better was found."))
        parts.append(figure_box("progress", figure, drawn))
    return "".join([*parts, "</div></div></section>"])


def rung_words(records: Sequence[TrialRecord], rungs: Sequence[int]) -> str:
    """Sentences on the rungs' agreement with the end of training, each with a leading space; empty with too few finished trials."""
    sentences = []
    for epoch in sorted(set(rungs)):
        found = rung_reliability(records, epoch)
        if found is None:
            continue
        meaning = (
            "the rung can be trusted"
            if found.trusted
            else "the rung cannot be trusted, and fewer trials are stopped at it"
        )
        sentences.append(
            f" The order at epoch {epoch} agrees with that at the end by a rank correlation of {found.correlation:.2f} "
            f"({found.low:.2f} to {found.high:.2f}, over {found.trials} finished trials): {meaning}."
        )
    return "".join(sentences)


def choice_section(records: Sequence[TrialRecord], front: ParetoFront, drawn: dict[str, go.Figure]) -> str:
    """Section with mIoU by the candidates' dimensions; empty with too few trained candidates."""
    figure = choice_figures.choices_figure(records, front)
    if figure is None:
        return ""
    sentence = (
        "Each dot is a network that was trained to the end. First the dimensions that its mIoU goes with most; with few trials that "
        "may be chance, and the search tries good values more often."
    )
    box = figure_box("choices", figure, drawn, min_width_px=choice_figures.LEAST_WIDTH_PX)
    return f"<section><h2>Which choices led where</h2>{tables.soft(sentence)}{box}</section>"


def latency_section(path: Path, inputs: ReportInputs, drawn: dict[str, go.Figure]) -> str:
    """Section with predicted against measured latency, and the accuracy of the latency model."""
    records = inputs.records
    parts = ["<section><h2>Predicted against measured latency</h2>"]
    parity, errors = (
        latency_figures.predicted_vs_measured_figure(records),
        latency_figures.relative_error_figure(records),
    )
    if parity is None or errors is None:
        parts.append(
            tables.empty("Nothing has been measured on the device after training, so predictions stand unchecked here.")
        )
    else:
        parts.append(f"<p>{escape(_latency_sentence(records))}</p>")
        pair = f"<div>{figure_box('parity', parity, drawn)}</div><div>{figure_box('errors', errors, drawn)}</div>"
        parts.append(f'<div class="pair">{pair}</div>')
    unknown = sorted({kind for record in records if record.estimate for kind in record.estimate.unknown_kinds})
    if unknown:
        parts.append(
            tables.note(
                "The latency model has no measurement of these kinds of kernel, and widened its intervals for them: "
                f"{', '.join(unknown)}."
            )
        )
    parts.append("<h3>The latency model</h3>")
    if inputs.calibration:
        rest = dict(inputs.calibration)
        summary = rest.pop("summary", None)
        parts.append(f"<p>{escape(str(summary))}</p>" if summary else "")
        parts.append(tables.facts(model_facts(rest)))
    else:
        parts.append(tables.empty("No calibration was recorded with this study."))
    if inputs.latency_report is not None:
        link = escape(trial_tables.address(inputs.latency_report, path.absolute().parent))
        parts.append(f'<p style="margin-top:10px"><a href="{link}">Report of the latency model</a></p>')
    return "".join([*parts, "</section>"])


def _latency_sentence(records: Sequence[TrialRecord]) -> str:
    known = [r for r in records if r.duplicate_of is None and text.relative_error(r) is not None]
    errors = [abs(text.relative_error(record) or 0.0) for record in known]
    marks = [inside for inside in map(text.inside_interval, known) if inside is not None]
    within = sum(error <= 0.1 for error in errors)
    networks = "1 network" if len(known) == 1 else f"{len(known)} networks"
    sentence = f"{networks} measured after training: median error of the prediction {median(errors):.1%}, largest "
    sentence += f"{max(errors):.1%}; {within} of {len(known)} within 10%"
    return f"{sentence}; {sum(marks)} of {len(marks)} inside the predicted interval." if marks else f"{sentence}."
