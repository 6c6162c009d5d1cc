"""The HTML tables and marks of the report. Everything that goes in is escaped here, and only here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from dashboards import text
from objectives.objective import OBJECTIVES, Objective, beside_the_usual
from objectives.trial_record import TrialRecord
from search_spaces.describe import stage_words


@dataclass(frozen=True)
class Html:
    """Source that is already safe; a plain ``str`` never is."""

    source: str


Cell = str | Html

# Facts of a calibration that read better under another name; True where the value is a share.
_LABELS = {
    "networks": ("networks measured", False),
    "seconds": ("time taken, s", False),
    "noise_rel": ("noise of a measurement", True),
    "loo_median_error": ("median error, each network left out in turn", True),
    "loo_within10": ("within 10% of measured, left out in turn", True),
    "coverage": ("intervals that held, left out in turn", True),
    "reference_drift": ("drift of the reference network", True),
    "model_path": ("file", False),
}


@dataclass(frozen=True)
class Column:
    """A table's column: its heading and how its cells are set (``number``, ``name``, ``words`` or plain)."""

    heading: str
    kind: str = ""


def html(value: Cell) -> str:
    return value.source if isinstance(value, Html) else escape(value)


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> str:
    """A table that scrolls sideways on a narrow screen instead of breaking its page."""
    head = "".join(f'<th class="{column.kind}">{escape(column.heading)}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(f'<td class="{c.kind}">{html(v)}</td>' for c, v in zip(columns, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def empty(sentence: str) -> str:
    return f'<p class="empty">{escape(sentence)}</p>'


def folded(summary: str, body: str, *, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{body}</details>"


def interval_mark(record: TrialRecord) -> Html:
    """Whether the measurement fell inside the predicted interval."""
    inside = text.inside_interval(record)
    if inside is None:
        words = "not measured" if record.measured_ms is None else "no interval"
        return Html(f'<span class="mark none">{words}</span>')
    error = text.relative_error(record)
    detail = "" if error is None else f" · {error:+.1%}"
    return Html(f'<span class="mark {"good" if inside else "bad"}">{"inside" if inside else "outside"}{detail}</span>')


def bundle_link(record: TrialRecord, report: Path) -> Html:
    """A link to the bundle's folder, relative where it shares one with the report, so that both can be moved."""
    if record.bundle is None:
        if record.export_error is None:
            return Html('<span class="mark none">none</span>')
        return Html(f'<span class="mark bad">failed</span> {escape(record.export_error)}')
    bundle = Path(record.bundle)
    return Html(f'<a href="{escape(_address(bundle, report.absolute().parent))}">{escape(bundle.name)}</a>')


def front_table(front: Sequence[TrialRecord], report: Path, objectives: Sequence[Objective] = OBJECTIVES) -> str:
    """The members of the front, best in the last objective first; other objectives than mIoU and latency have columns of their own."""
    others = beside_the_usual(objectives)
    columns = [
        Column("trial", "number"),
        Column("family", "name"),
        Column("decoder", "name"),
        Column("width", "number"),
        Column("resolution", "name"),
        Column("pruned", "number"),
        Column("mIoU", "number"),
        *(Column(objective.label, "number") for objective in others),
        Column("predicted, ms", "number"),
        Column("measured, ms", "number"),
        Column("interval holds", "name"),
        Column("MACs", "number"),
        Column("parameters", "number"),
        Column("bundle", "name"),
    ]
    return table(columns, [_front_row(record, report, others) for record in front])


def trial_table(records: Sequence[TrialRecord]) -> str:
    """Every trial and how it ended."""
    columns = [
        Column("trial", "number"),
        Column("outcome", "name"),
        Column("candidate", "words"),
        Column("learning rate", "number"),
        Column("mIoU", "number"),
        Column("epochs", "number"),
        Column("predicted, ms", "number"),
        Column("time", "number"),
    ]
    rows: list[list[Cell]] = []
    for record in records:
        score = record.score
        rows.append(
            [
                str(record.number),
                text.OUTCOMES.get(record.outcome or "", record.outcome or text.RUNNING),
                text.network(record),
                text.value_text(record.params.get("learning_rate", "–")),
                text.miou(record.val_miou),
                f"{score.epoch} of {score.epochs_total}" if score else "–",
                _predicted(record),
                text.seconds(record.duration_s),
            ]
        )
    return table(columns, rows)


def reason_table(records: Sequence[TrialRecord], *, with_latency: bool) -> str:
    """Trials that were refused, stopped or died, each with its reason."""
    columns = [Column("trial", "number"), Column("candidate", "words")]
    columns += [Column("predicted, ms", "number")] if with_latency else []
    columns.append(Column("why", "words"))
    rows: list[list[Cell]] = []
    for record in records:
        row: list[Cell] = [str(record.number), text.network(record)]
        row += [_predicted(record)] if with_latency else []
        rows.append([*row, record.reason or "no reason was recorded"])
    return table(columns, rows)


def facts(values: Mapping[str, Any]) -> str:
    """A mapping of plain values as a definition list; nested mappings are joined in one line."""
    parts = []
    for name, value in values.items():
        label, as_share = _LABELS.get(name, (name.replace("_", " "), False))
        shown = f"{value:.1%}" if as_share and isinstance(value, float) else _fact(value)
        parts.append(f"<dt>{escape(label)}</dt><dd>{escape(shown)}</dd>")
    return f"<dl>{''.join(parts)}</dl>"


def _front_row(record: TrialRecord, report: Path, others: Sequence[Objective]) -> list[Cell]:
    params = record.params
    width, pruned = params.get("width"), params.get("prune_ratio")
    return [
        str(record.number),
        str(params.get("family") or stage_words(params) or "–"),
        str(params.get("decoder", "–")),
        "–" if width is None else f"×{text.value_text(width)}",
        str(params.get("resolution", "–")),
        f"{pruned:.0%}" if isinstance(pruned, (int, float)) else "–",
        Html(f"<b>{escape(text.miou(record.val_miou))}</b>"),
        *(objective.text(objective.value(record)) for objective in others),
        _predicted(record),
        text.milliseconds(record.measured_ms),
        interval_mark(record),
        text.count(record.score.macs if record.score else None),
        text.count(record.score.params if record.score else None),
        bundle_link(record, report),
    ]


def _predicted(record: TrialRecord) -> Html:
    value, bounds = escape(text.milliseconds(record.latency_ms)), escape(text.interval(record))
    return Html(f'{value} <span class="soft">{bounds}</span>' if bounds else value)


def _address(target: Path, start: Path) -> str:
    if not target.is_absolute():
        return quote(target.as_posix())
    try:
        steps = _steps(start, target)
    except ValueError:
        return target.as_uri()
    return quote(PurePath(*steps).as_posix()) if steps else "."


def _steps(start: Path, target: Path) -> tuple[str, ...]:
    """How to walk from one folder to another; ValueError where they share nothing but the root."""
    shared = 0
    for ours, theirs in zip(start.parts, target.parts, strict=False):
        if ours != theirs:
            break
        shared += 1
    if shared < 2:
        raise ValueError(f"{target} and {start} share no folder")
    return ("..",) * (len(start.parts) - shared) + target.parts[shared:]


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_fact(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(item) for item in value) or "none"
    return text.value_text(value)
