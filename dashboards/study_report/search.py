"""Sections of the report on the trainings and on the accuracy of the predicted latencies."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import median

from dashboards import tables, text
from dashboards.figures import curves as curve_figures, latency as latency_figures
from dashboards.page import figure_box
from dashboards.study_report import trial_tables
from dashboards.study_report.inputs import ReportInputs
from dashboards.study_report.model_facts import model_facts
from dashboards.study_report.understanding import Drawn
from objectives.pareto import ParetoFront
from objectives.rung_reliability import Rung, rung_reliability
from objectives.trial_record import Outcome, TrialRecord


def learning_section(records: Sequence[TrialRecord], front: ParetoFront, rungs: Sequence[Rung], drawn: Drawn) -> str:
    """Section with learning curves, and what early stopping saved."""
    parts = [
        "<section><h2>Training</h2>",
        tables.question("What did stopping early save, and can its rungs be trusted?"),
    ]
    figure = curve_figures.learning_curves_figure(records, front, rungs=rungs)
    if figure is None:
        parts.append(tables.empty("No trial has reported an epoch yet."))
        return "".join([*parts, "</section>"])
    parts.append(tables.soft(f"{saving_words(records)}{rung_words(records, rungs)}"))
    members = sum(bool(record.curve) for record in front.records)
    if members > curve_figures.MOST_MEMBERS:
        parts.append(
            tables.soft(f"Drawn: {curve_figures.MOST_MEMBERS} of the {members} members, evenly from fast to slow.")
        )
    parts.append(figure_box("curves", figure, drawn))
    return "".join([*parts, "</section>"])


def saving_words(records: Sequence[TrialRecord]) -> str:
    """Sentences on the trials stopped early and the epochs and hours of training that this saved."""
    stopped = [record for record in records if record.outcome == Outcome.STOPPED]
    words = {0: "No trial was", 1: "1 trial was"}.get(len(stopped), f"{len(stopped)} trials were")
    trained = [(r, r.score) for r in records if r.score is not None and r.duplicate_of is None]
    spent = sum(score.epoch - score.cached_epochs for _, score in trained)
    full = sum(score.epochs_total for _, score in trained)
    if not stopped or not full:
        return f"{words} stopped early."
    left_s = sum(
        score.train_s / score.epoch * (score.epochs_total - score.epoch)
        for record, score in trained
        if record.outcome == Outcome.STOPPED and score.epoch
    )
    return (
        f"{words} stopped early. Training took {spent} epochs; training all of them to the end would have taken {full}, about "
        f"{text.seconds(left_s)} of training more at the pace of each."
    )


def rung_words(records: Sequence[TrialRecord], rungs: Sequence[Rung]) -> str:
    """Sentences on the rungs' agreement with the end of training, each with a leading space; empty with too few finished trials."""
    sentences = []
    for rung in sorted(set(rungs)):
        found = rung_reliability(records, rung)
        if found is None:
            continue
        meaning = (
            "the rung can be trusted"
            if found.trusted
            else "the rung cannot be trusted, and fewer trials are stopped at it"
        )
        sentences.append(
            f" The order {rung} agrees with that at the end by a rank correlation of {found.correlation:.2f} "
            f"({found.low:.2f} to {found.high:.2f}, over {found.trials} finished trials): {meaning}."
        )
    return "".join(sentences)


def latency_section(path: Path, inputs: ReportInputs, drawn: Drawn) -> str:
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
        parts.append(tables.question("Did the predictions hold?"))
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
