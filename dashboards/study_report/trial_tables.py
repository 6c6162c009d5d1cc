"""Tables of trials: the front, all trials, and reasons of refused, stopped or failed ones."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path, PurePath
from urllib.parse import quote

from dashboards import text
from dashboards.tables import Cell, Column, Html, number, table
from objectives.objective import MACS, METRICS, OBJECTIVES, PARAMS, Objective, extra_objectives
from objectives.trial_record import TrialRecord
from search_spaces.describe import network_name


def front_table(front: Sequence[TrialRecord], report: Path, objectives: Sequence[Objective] = OBJECTIVES) -> str:
    """Table of the front's members, best in the last objective first; objectives other than mIoU and latency have own columns."""
    others = extra_objectives(objectives)
    quantized = text.any_quantized(front)
    columns = [
        Column("trial", "number"),
        Column("network", "words"),
        Column("input", "name"),
        Column("pruned", "number"),
        *([Column("precision", "name"), Column("float mIoU", "number")] if quantized else []),
        Column("mIoU", "number"),
        *(Column(objective.label, "number") for objective in others),
        Column("predicted, ms", "number"),
        Column("measured, ms; interval, error", "number"),
        *(Column(item.label, "number") for item in _sizes(objectives)),
        Column("bundle", "name"),
    ]
    return table(columns, [_front_row(record, report, objectives, quantized) for record in front])


def trial_table(records: Sequence[TrialRecord], objectives: Sequence[Objective] = OBJECTIVES) -> str:
    """Table of all trials with their outcome."""
    others = extra_objectives(objectives)
    quantized = text.any_quantized(records)
    columns = [
        Column("trial", "number"),
        Column("outcome", "name"),
        Column("candidate", "words"),
        Column("learning rate", "number"),
        *([Column("precision", "name"), Column("float mIoU", "number")] if quantized else []),
        Column("mIoU", "number"),
        *(Column(objective.label, "number") for objective in others),
        Column("epochs", "number"),
        Column("predicted, ms", "number"),
        Column("measured, ms", "number"),
        Column("time", "number"),
    ]
    rows: list[list[Cell]] = []
    for record in records:
        score = record.score
        rows.append(
            [
                str(record.number),
                text.outcome(record),
                text.network(record),
                text.value_text(record.params.get("learning_rate", "–")),
                *([record.precision or "–", text.miou(record.float_miou)] if quantized else []),
                text.miou(record.val_miou),
                *(_objective(objective, record) for objective in others),
                f"{score.epoch} of {score.epochs_total}" if score else "–",
                _predicted(record),
                text.milliseconds(record.measured_ms),
                number(text.seconds(record.duration_s), record.duration_s),
            ]
        )
    return table(columns, rows)


def reason_table(records: Sequence[TrialRecord], *, with_latency: bool) -> str:
    """Table of refused, stopped or failed trials with the reason of each."""
    columns = [Column("trial", "number"), Column("candidate", "words")]
    columns += [Column("predicted, ms", "number")] if with_latency else []
    columns.append(Column("why", "words"))
    rows: list[list[Cell]] = []
    for record in records:
        row: list[Cell] = [str(record.number), text.network(record)]
        row += [_predicted(record)] if with_latency else []
        rows.append([*row, record.reason or "no reason was recorded"])
    return table(columns, rows)


def address(target: Path, start: Path) -> str:
    """Link from a page in the folder ``start``, relative if they share a parent folder, so that both can be moved."""
    if not target.is_absolute():
        return quote(target.as_posix())
    try:
        steps = _steps(start, target)
    except ValueError:
        return target.as_uri()
    return quote(PurePath(*steps).as_posix()) if steps else "."


def _front_row(record: TrialRecord, report: Path, objectives: Sequence[Objective], quantized: bool) -> list[Cell]:
    params, score = record.params, record.score
    sizes = {MACS: score.macs, PARAMS: score.params} if score else {}
    pruned = params.get("prune_ratio")
    return [
        str(record.number),
        network_name(params),
        str(params.get("resolution", "–")),
        f"{pruned:.0%}" if isinstance(pruned, (int, float)) else "–",
        *([record.precision or "–", text.miou(record.float_miou)] if quantized else []),
        Html(f"<b>{escape(text.miou(record.val_miou))}</b>", record.val_miou),
        *(_objective(objective, record) for objective in extra_objectives(objectives)),
        _predicted(record),
        _measured(record),
        *(number(text.count(sizes.get(item.name)), sizes.get(item.name)) for item in _sizes(objectives)),
        _bundle_link(record, report),
    ]


def _sizes(objectives: Sequence[Objective]) -> list[Objective]:
    """MACs and parameters, unless they have a column as objectives."""
    chosen = {objective.name for objective in objectives}
    return [METRICS[name] for name in (MACS, PARAMS) if name not in chosen]


def _measured(record: TrialRecord) -> Html:
    """Measurement, position relative to the predicted interval, and error of the prediction."""
    if record.measured_ms is None:
        return Html('<span class="mark none">not measured</span>')
    inside, error = text.inside_interval(record), text.relative_error(record)
    words = {None: "no interval", True: "inside", False: "outside"}[inside]
    kind = {None: "none", True: "good", False: "bad"}[inside]
    detail = "" if error is None else f" · {error:+.1%}"
    mark = f'<span class="mark {kind}">{words}{detail}</span>'
    return Html(f"{escape(text.milliseconds(record.measured_ms))} {mark}", record.measured_ms)


def _bundle_link(record: TrialRecord, report: Path) -> Html:
    if record.bundle is None:
        if record.export_error is None:
            return Html('<span class="mark none">none</span>')
        return Html(f'<span class="mark bad">failed</span> {escape(record.export_error)}')
    bundle, folder = Path(record.bundle), report.absolute().parent
    link = f'<a href="{escape(address(bundle, folder))}">{escape(bundle.name)}</a>'
    if bundle.is_absolute() and not bundle.is_dir():
        return Html(f'{link} <span class="mark bad">not found in</span> {escape(str(bundle.parent))}')
    if bundle.is_absolute() and not bundle.is_relative_to(folder):
        return Html(f'{link} <span class="soft">not beside this page: {escape(str(bundle))}</span>')
    return Html(link)


def _objective(objective: Objective, record: TrialRecord) -> Html:
    value = objective.value(record)
    return number(objective.text(value), None if value != value else value)


def _predicted(record: TrialRecord) -> Html:
    value, bounds = escape(text.milliseconds(record.latency_ms)), escape(text.interval(record))
    return Html(f'{value} <span class="soft">{bounds}</span>' if bounds else value)


def _steps(start: Path, target: Path) -> tuple[str, ...]:
    """Relative path from one folder to another; ValueError if they share only the root."""
    shared = 0
    for ours, theirs in zip(start.parts, target.parts, strict=False):
        if ours != theirs:
            break
        shared += 1
    if shared < 2:
        raise ValueError(f"{target} and {start} share no folder")
    return ("..",) * (len(start.parts) - shared) + target.parts[shared:]
