"""HTML report of a study: one self-contained file that opens without a network connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from dashboards import tables, text
from dashboards.page import whole_page
from dashboards.study_report import trial_tables
from dashboards.study_report.front import (
    class_section,
    front_section,
    preview_section,
    refit_section,
    target_sections,
)
from dashboards.study_report.inputs import ReportInputs
from dashboards.study_report.progress import progress_section
from dashboards.study_report.search import latency_section, learning_section
from dashboards.study_report.understanding import Drawn, choice_section, winner_section
from objectives.pareto import ParetoFront
from objectives.trial_record import Outcome, TrialRecord
from search_spaces._common.files import atomic_path
from search_spaces._common.urls import redact_url

_LONG_TABLE, _MOST_ROWS = 12, 400
_ELSEWHERE = "All of them:"


def write_report(path: Path, inputs: ReportInputs) -> Path:
    """Write the report of a study, finished or not.

    Args:
        path: .html file; replaced atomically, missing folders are created.
        inputs: study, trials and front.

    Returns:
        ``path``.

    Raises:
        UserError: the file cannot be written.
    """
    drawn: Drawn = {}
    body = [
        _headline(inputs),
        "<main>",
        front_section(path, inputs, drawn),
        target_sections(path, inputs, drawn),
        refit_section(inputs),
        preview_section(inputs.front),
        class_section(inputs.front, inputs.class_names, drawn),
        winner_section(inputs, drawn),
        progress_section(inputs, drawn),
        learning_section(inputs.records, inputs.front, inputs.rungs, drawn),
        choice_section(inputs.records, inputs.front, drawn),
        latency_section(path, inputs, drawn),
        _not_trained_section(inputs.records),
        _all_section(inputs),
        "</main>",
        _footer(inputs.front),
    ]
    page = whole_page(inputs.study_name, "\n".join(body), drawn)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _headline(inputs: ReportInputs) -> str:
    records, front, budget_ms = inputs.records, inputs.front, inputs.latency_budget_ms
    ended = text.by_outcome(records)
    about = [f"data: {inputs.data_name}"] if inputs.data_name else []
    about.append(f"device: {inputs.device or 'not stated'}")
    about += [words] if (words := text.precisions(records)) else []
    about.append("no latency budget" if budget_ms is None else f"budget {budget_ms:g} ms")
    trained_s = sum(record.score.train_s for record in records if record.score and record.duplicate_of is None)
    about += [f"{text.seconds(trained_s)} of training"] if trained_s else []
    about.append(f"written {inputs.written_at or datetime.now():%Y-%m-%d %H:%M}")
    tiles = [
        (str(len(records)), "trial" if len(records) == 1 else "trials"),
        (str(ended[Outcome.FINISHED]), text.OUTCOMES[Outcome.FINISHED]),
        (str(ended[Outcome.STOPPED]), text.OUTCOMES[Outcome.STOPPED]),
        (str(ended[Outcome.INFEASIBLE]), text.OUTCOMES[Outcome.INFEASIBLE]),
        (str(ended[Outcome.FAILED]), text.OUTCOMES[Outcome.FAILED]),
    ]
    tiles += [
        (str(ended[name]), label)
        for name, label in ((Outcome.DUPLICATE, "reused"), (text.RUNNING, "running"))
        if ended[name]
    ]
    tiles.append((str(len(front)), f"on the Pareto front{text.within_budget(front, budget_ms)}"))
    tiles += _best_tiles(front, budget_ms)
    return (
        f'<header><div><h1>{escape(inputs.study_name)}</h1><div class="soft">{escape(" · ".join(about))}</div>'
        f"{tables.tiles(tiles)}</div></header>"
    )


def _best_tiles(front: ParetoFront, latency_budget_ms: float | None) -> list[tuple[str, str]]:
    within = [r for r in front.records if not text.over_budget(r, front.objectives, latency_budget_ms)]
    best = max(within or front.records, key=lambda record: record.val_miou or 0.0, default=None)
    if best is None or best.val_miou is None:
        return []
    known = f"{text.milliseconds(best.latency_ms)} ms" + ("" if within else ", over the budget")
    volume = format(front.hypervolume, ".3f" if text.is_default(front.objectives) else ".4g")
    return [
        (text.miou(best.val_miou), f"best mIoU, at {known}"),
        (volume, text.volume_name(front.objectives)),
    ]


def _not_trained_section(records: Sequence[TrialRecord]) -> str:
    parts = ["<section><h2>Refused and failed</h2>"]
    for outcome, words, none, with_latency in (
        (Outcome.INFEASIBLE, "refused before any training", "No candidate was refused before training.", True),
        (Outcome.FAILED, "failed", "No trial failed.", False),
    ):
        chosen = [record for record in records if record.outcome == outcome]
        if not chosen:
            parts.append(tables.soft(none))
            continue
        title = f"{len(chosen)} {'trial' if len(chosen) == 1 else 'trials'} {words}"
        most = _MOST_ROWS // 4
        more = (
            f"The last {most}. {_ELSEWHERE} `paretoseg trials STUDY.yaml --state {outcome}`."
            if len(chosen) > most
            else ""
        )
        chosen = chosen[-most:]
        body = tables.soft(more) if more else ""
        body += trial_tables.reason_table(chosen, with_latency=with_latency)
        parts.append(tables.folded(title, body, is_open=len(chosen) <= _LONG_TABLE))
    exports = [record for record in records if record.export_error and record.bundle is None]
    if exports:
        rows: list[list[tables.Cell]] = [[str(r.number), text.network(r), r.export_error or ""] for r in exports]
        columns = [tables.Column("trial", "number"), tables.Column("candidate", "words"), tables.Column("why", "words")]
        parts.append(tables.folded(f"{len(exports)} not exported", tables.table(columns, rows), is_open=True))
    engines = [record for record in records if record.engine_failed]
    if engines:
        why = [(record, record.engine or {}) for record in engines]
        rows = [[str(r.number), text.network(r), f"{step.get('device')}: {step.get('reason')}"] for r, step in why]
        columns = [tables.Column("trial", "number"), tables.Column("candidate", "words"), tables.Column("why", "words")]
        title = f"{len(engines)} with an engine that is not the trained network"
        parts.append(tables.folded(title, tables.table(columns, rows), is_open=True))
    return "".join([*parts, "</section>"])


def _all_section(inputs: ReportInputs) -> str:
    parts = ["<section><h2>The record</h2>"]
    records, objectives = inputs.records, inputs.front.objectives
    if records:
        shown = _first(records, inputs.front)
        title = f"All {len(records)} trials" if len(shown) == len(records) else f"{len(shown)} of {len(records)} trials"
        rest = (
            ""
            if len(shown) == len(records)
            else tables.soft(
                f"The front and the last ones. {_ELSEWHERE} `paretoseg trials STUDY.yaml --csv trials.csv`."
            )
        )
        parts.append(tables.folded(title, rest + trial_tables.trial_table(shown, objectives)))
    else:
        parts.append(tables.empty("The study has no trial yet."))
    if inputs.environment:
        parts.append(tables.folded("The environment", tables.facts(inputs.environment)))
    if inputs.config_yaml.strip():
        parts.append(tables.folded("The resolved config", f"<pre>{escape(redact_url(inputs.config_yaml))}</pre>"))
    return "".join([*parts, "</section>"])


def _first(records: Sequence[TrialRecord], front: ParetoFront) -> list[TrialRecord]:
    """Choose the rows of the table of a long study: the front and the last trials, by number."""
    if len(records) <= _MOST_ROWS:
        return list(records)
    members = list(front.records[:_MOST_ROWS])
    numbers = {record.number for record in members}
    last = [record for record in records if record.number not in numbers][-(_MOST_ROWS - len(members)) :]
    return sorted([*members, *last], key=lambda record: record.number)


def _footer(front: ParetoFront) -> str:
    corner, unit = text.corner(front.objectives, front.reference_point), text.volume_unit(front.objectives)
    between = "area" if len(front.objectives) == 2 else "volume"
    return (
        "<footer><p>mIoU: class-mean IoU from one confusion matrix over the whole validation split; classes absent "
        "from labels and predictions are left out. Latency: one image, predicted before training by a model that was "
        "fitted to measurements of the device; measured values are medians. Only networks trained to the end stand on "
        "the front. "
        f"Hypervolume: the {between} between the front and the reference point ({escape(corner)}), in {escape(unit)}. "
        "Each figure with what to do about it: docs/reading-the-report.md of the project.</p>"
        "</footer>"
    )
