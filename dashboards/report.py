"""The HTML report: one file that explains a study, opens from a disk, and asks nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

import plotly.graph_objects as go

from dashboards import figures, latency_figures, objective_figures, tables, text
from dashboards.page import figure_box, whole_page
from dashboards.picture import front_svg
from objectives.objective import budget_texts
from objectives.pareto import MEASURED_LATENCY, MIOU, ParetoFront, pareto_front
from objectives.storage_url import redact_url
from objectives.trial_record import DIED, FINISHED, REFUSED, REUSED, STOPPED, TrialRecord
from search_spaces.files import atomic_path

_LONG_TABLE = 12


def write_report(
    path: Path,
    *,
    study_name: str,
    records: Sequence[TrialRecord],
    front: ParetoFront,
    class_names: Sequence[str] = (),
    config_yaml: str = "",
    device: str | None = None,
    latency_budget_ms: float | None = None,
    calibration: Mapping[str, Any] | None = None,
    rungs: Sequence[int] = (),
    data_name: str | None = None,
    written_at: datetime | None = None,
) -> Path:
    """Write the report of a study, finished or not, and return its path.

    Args:
        path: the .html file; replaced atomically, folders are made.
        records: all trials of the study.
        front: the front of ``records``; its reference point is the one stated.
        class_names: of the data set, in the order of ``TrialScore.class_iou``.
        config_yaml: the resolved config; passwords of URLs in it are hidden.
        device: what the latencies are of.
        calibration: facts of the latency model, as plain values; a key ``summary`` is set as a sentence.
        rungs: epochs at which trials were compared.
        data_name: the data set's name.
        written_at: the time stamp; now where None.

    Raises:
        UserError: the file cannot be written.
    """
    drawn: dict[str, go.Figure] = {}
    body = [
        _headline(study_name, records, front, device, latency_budget_ms, data_name, written_at or datetime.now()),
        "<main>",
        _front_section(path, study_name, records, front, latency_budget_ms, drawn),
        _learning_section(records, front, rungs, drawn),
        _latency_section(records, calibration, drawn),
        _class_section(front, class_names, drawn),
        _not_trained_section(records),
        _all_section(records, config_yaml),
        "</main>",
        _footer(front),
    ]
    page = whole_page(study_name, "\n".join(body), drawn)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _headline(
    study_name: str,
    records: Sequence[TrialRecord],
    front: ParetoFront,
    device: str | None,
    latency_budget_ms: float | None,
    data_name: str | None,
    written_at: datetime,
) -> str:
    ended = text.by_outcome(records)
    about = [f"data: {data_name}"] if data_name else []
    about.append(f"device: {device or 'not stated'}")
    budget = "no latency budget" if latency_budget_ms is None else f"budget {latency_budget_ms:g} ms"
    about += [budget, f"written {written_at:%Y-%m-%d %H:%M}"]
    best = max((r for r in front.records if r.val_miou is not None), key=lambda r: r.val_miou or 0.0, default=None)
    tiles = [
        (str(len(records)), "trial" if len(records) == 1 else "trials"),
        (str(ended[FINISHED]), text.OUTCOMES[FINISHED]),
        (str(ended[STOPPED]), text.OUTCOMES[STOPPED]),
        (str(ended[REFUSED]), text.OUTCOMES[REFUSED]),
        (str(ended[DIED]), text.OUTCOMES[DIED]),
    ]
    tiles += [
        (str(ended[name]), label) for name, label in ((REUSED, "reused"), (text.RUNNING, "running")) if ended[name]
    ]
    tiles.append((str(len(front)), "on the Pareto front"))
    if best is not None:
        tiles.append((text.miou(best.val_miou), f"best mIoU, at {text.milliseconds(best.latency_ms)} ms"))
        shown = ".3f" if text.is_usual(front.objectives) else ".4g"
        tiles.append((format(front.hypervolume, shown), f"hypervolume, {text.volume_unit(front.objectives)}"))
    boxes = "".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in tiles)
    line = escape(" · ".join(about))
    return (
        f'<header><div><h1>{escape(study_name)}</h1><div class="soft">{line}</div>'
        f'<div class="tiles">{boxes}</div></div></header>'
    )


def _front_section(
    path: Path,
    study_name: str,
    records: Sequence[TrialRecord],
    front: ParetoFront,
    latency_budget_ms: float | None,
    drawn: dict[str, go.Figure],
) -> str:
    usual = text.is_usual(front.objectives)
    parts = [f"<section><h2>{'Accuracy against latency' if usual else 'The Pareto front'}</h2>"]
    figure = figures.pareto_figure(records, front, latency_budget_ms=latency_budget_ms)
    if figure is None:
        parts.append(tables.empty("No trial has been trained to the end yet, so there is no front. " + _next(records)))
        return "".join([*parts, "</section>"])
    parts.append(f'<p class="soft">{escape(_USUAL if usual else _others(front))}</p>')
    parts.append(figure_box("front", figure, drawn))
    trade = None if usual else objective_figures.trade_figure(front)
    if trade is not None:
        parts.append("<h3>What each member trades</h3>")
        parts.append(figure_box("trade", trade, drawn))
    if usual:
        svg = front_svg(records, front, title=study_name, latency_budget_ms=latency_budget_ms)
        parts.append(f"<noscript>{svg}</noscript>")
    parts.append("<h3>The front</h3>")
    parts.append(tables.front_table(front.records, path, front.objectives))
    fallen = _fallen(front) if usual else ()
    if fallen:
        numbers = ", ".join(str(number) for number in fallen)
        parts.append(
            f'<p class="note">By what was measured, {"trial" if len(fallen) == 1 else "trials"} {numbers} would not '
            "stand on the front: another member is at least as accurate and was measured to be faster.</p>"
        )
    return "".join([*parts, "</section>"])


def _learning_section(
    records: Sequence[TrialRecord], front: ParetoFront, rungs: Sequence[int], drawn: dict[str, go.Figure]
) -> str:
    parts = ['<section><div class="pair"><div><h2>Learning curves</h2>']
    figure = figures.learning_curves_figure(records, front, rungs=rungs)
    if figure is None:
        parts.append(tables.empty("No trial has reported an epoch yet."))
    else:
        stopped = sum(record.outcome == STOPPED for record in records)
        epochs = [
            (r.score.epoch, r.score.epochs_total) for r in records if r.score is not None and r.reused_from is None
        ]
        spent, full = sum(done for done, _ in epochs), sum(total for _, total in epochs)
        saved = (
            f" Training took {spent} epochs; training all of them to the end would have taken {full}."
            if stopped and full
            else ""
        )
        words = "1 trial was" if stopped == 1 else f"{stopped} trials were"
        parts.append(f'<p class="soft">{words} stopped early.{saved}</p>')
        parts.append(figure_box("curves", figure, drawn))
    parts.append("</div><div><h2>Progress of the search</h2>")
    figure = figures.hypervolume_figure(records, front)
    if figure is None:
        parts.append(tables.empty("The hypervolume starts with the first trial that is trained to the end."))
    else:
        parts.append(
            '<p class="soft">Hypervolume of the front as trials came in; where flat, nothing better was found.</p>'
        )
        parts.append(figure_box("progress", figure, drawn))
    return "".join([*parts, "</div></div></section>"])


def _latency_section(
    records: Sequence[TrialRecord], calibration: Mapping[str, Any] | None, drawn: dict[str, go.Figure]
) -> str:
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
    unknown = sorted({kind for record in records for kind in record.unknown_kinds})
    if unknown:
        parts.append(
            f'<p class="note">The latency model has no measurement of these kinds of kernel, and widened its intervals '
            f"for them: {escape(', '.join(unknown))}.</p>"
        )
    parts.append("<h3>The latency model</h3>")
    if calibration:
        rest = dict(calibration)
        summary = rest.pop("summary", None)
        parts.append(f"<p>{escape(str(summary))}</p>" if summary else "")
        parts.append(tables.facts(rest))
    else:
        parts.append(tables.empty("No calibration was recorded with this study."))
    return "".join([*parts, "</section>"])


def _latency_sentence(records: Sequence[TrialRecord]) -> str:
    known = [r for r in records if r.reused_from is None and text.relative_error(r) is not None]
    errors = [abs(text.relative_error(record) or 0.0) for record in known]
    marks = [inside for inside in map(text.inside_interval, known) if inside is not None]
    within = sum(error <= 0.1 for error in errors)
    networks = "1 network" if len(known) == 1 else f"{len(known)} networks"
    sentence = f"{networks} measured after training: median error of the prediction {median(errors):.1%}, largest "
    sentence += f"{max(errors):.1%}; {within} of {len(known)} within 10%"
    return f"{sentence}; {sum(marks)} of {len(marks)} inside the predicted interval." if marks else f"{sentence}."


def _class_section(front: ParetoFront, class_names: Sequence[str], drawn: dict[str, go.Figure]) -> str:
    parts = ["<section><h2>IoU by class</h2>"]
    figure = figures.class_iou_figure(front, class_names)
    if figure is None:
        parts.append(tables.empty("There is no network on the front yet whose classes could be shown."))
        return "".join([*parts, "</section>"])
    scores = [record.score.class_iou for record in front.records if record.score is not None]
    absent = [name for i, name in enumerate(class_names) if all(len(s) > i and s[i] is None for s in scores)]
    left_out = f" Left out, because neither labels nor predictions hold them: {', '.join(absent)}." if absent else ""
    parts.append(
        '<p class="soft">Of the front, on the validation split, at the labels\' own resolution. mIoU is the mean over '
        f"the classes that occur.{escape(left_out)}</p>"
    )
    parts.append(figure_box("classes", figure, drawn))
    return "".join([*parts, "</section>"])


def _not_trained_section(records: Sequence[TrialRecord]) -> str:
    parts = ["<section><h2>Refused and failed</h2>"]
    for outcome, words, none, with_latency in (
        (REFUSED, "refused before any training", "No candidate was refused before training.", True),
        (DIED, "failed", "No trial failed.", False),
    ):
        chosen = [record for record in records if record.outcome == outcome]
        if not chosen:
            parts.append(f'<p class="soft">{escape(none)}</p>')
            continue
        title = f"{len(chosen)} {'trial' if len(chosen) == 1 else 'trials'} {words}"
        body = tables.reason_table(chosen, with_latency=with_latency)
        parts.append(tables.folded(title, body, is_open=len(chosen) <= _LONG_TABLE))
    exports = [record for record in records if record.export_error and record.bundle is None]
    if exports:
        rows: list[list[tables.Cell]] = [[str(r.number), text.network(r), r.export_error or ""] for r in exports]
        columns = [tables.Column("trial", "number"), tables.Column("candidate", "words"), tables.Column("why", "words")]
        parts.append(tables.folded(f"{len(exports)} not exported", tables.table(columns, rows), is_open=True))
    return "".join([*parts, "</section>"])


def _all_section(records: Sequence[TrialRecord], config_yaml: str) -> str:
    parts = ["<section><h2>The record</h2>"]
    if records:
        parts.append(tables.folded(f"All {len(records)} trials", tables.trial_table(records)))
    else:
        parts.append(tables.empty("The study has no trial yet."))
    if config_yaml.strip():
        parts.append(tables.folded("The resolved config", f"<pre>{escape(redact_url(config_yaml))}</pre>"))
    return "".join([*parts, "</section>"])


def _footer(front: ParetoFront) -> str:
    corner, unit = text.corner(front.objectives, front.reference_point), text.volume_unit(front.objectives)
    between = "area" if len(front.objectives) == 2 else "volume"
    return (
        "<footer><p>mIoU: class-mean IoU from one confusion matrix over the whole validation split; classes absent "
        "from labels and predictions are left out. Latency: one image, predicted before training by a model that was "
        "fitted to measurements of the device; measured values are medians. Only networks trained to the end stand on "
        "the front. "
        f"Hypervolume: the {between} between the front and the reference point ({escape(corner)}), in {escape(unit)}.</p>"
        "</footer>"
    )


_USUAL = (
    "Each network on the blue line is the most accurate one that is at least as fast. Bars are the interval of the predicted "
    "latency, diamonds what was measured. Numbers are trials: hover for parameters, drag to zoom, double-click to go back."
)


def _others(front: ParetoFront) -> str:
    names = [objective.label for objective in front.objectives]
    budgets = budget_texts(front.objectives)
    return (
        f"No network is at least as good as one of the front in {', '.join(names[:-1])} and {names[-1]}, and better in one of them."
        + (f" Dashed: the budgets ({', '.join(budgets)})." if budgets else "")
        + " Numbers are trials: hover for parameters, drag to zoom, double-click to go back."
    )


def _fallen(front: ParetoFront) -> tuple[int, ...]:
    """Members of the front that another member beats by measured latency."""
    measured = [record for record in front.records if record.measured_ms is not None]
    still = pareto_front(measured, objectives=(MIOU, MEASURED_LATENCY)).numbers
    return tuple(record.number for record in measured if record.number not in still)


def _next(records: Sequence[TrialRecord]) -> str:
    ended = text.by_outcome(records)
    if not records:
        return "The study has no trials: run `paretoseg launch` with its config."
    if ended[REFUSED] == len(records):
        return "Every candidate was refused for its predicted latency: raise the budget, or allow smaller networks."
    if ended[text.RUNNING]:
        return "Trials are still running: write the report again when some have ended."
    return "The tables below say how the trials ended."
