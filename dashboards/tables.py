"""HTML tables, lists and marks of all pages. All values are escaped here, and only here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from dashboards import text
from dashboards.reading import READING


@dataclass(frozen=True)
class Html:
    """Escaped HTML; a plain ``str`` is escaped on use.

    Attributes:
        value: sort key of a cell whose text does not begin with it.
    """

    source: str
    value: float | None = None


Cell = str | Html


@dataclass(frozen=True)
class Column:
    """Column of a table: its heading and the style of its cells (``number``, ``name``, ``words`` or plain)."""

    heading: str
    kind: str = ""


def html(value: Cell) -> str:
    return value.source if isinstance(value, Html) else escape(value)


def number(shown: str, value: float | None) -> Html:
    """Number as text, sorted by its value: ``4 min 10 s``, ``68.4 M``."""
    return Html(escape(shown), value)


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> str:
    """Table that scrolls horizontally on a narrow screen and is sorted by a click on a heading."""
    head = "".join(f'<th class="{column.kind}">{escape(column.heading)}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(_cell(column, value) for column, value in zip(columns, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def empty(sentence: str) -> str:
    return f'<p class="empty">{escape(sentence)}</p>'


def note(sentence: str) -> str:
    return f'<p class="note">{escape(sentence)}</p>'


def soft(sentence: str) -> str:
    return f'<p class="soft">{escape(sentence)}</p>'


def question(sentence: str) -> str:
    """Heading of a figure: the question that it answers, with how to read it folded below."""
    heading, reading = f'<h3 class="question">{escape(sentence)}</h3>', READING.get(sentence)
    if reading is None:
        return heading
    words = f"<p>{escape(reading.how)}</p><p>{_with_code(reading.act)}</p>"
    return f'{heading}<details class="reading"><summary>How to read this, and what to do</summary>{words}</details>'


def _with_code(sentence: str) -> str:
    """Escape a sentence; what is between backticks is code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(sentence))


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Boxes of key figures with their labels."""
    boxes = "".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in pairs)
    return f'<div class="tiles">{boxes}</div>'


def folded(summary: str, body: str, *, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{body}</details>"


def facts(values: Mapping[str, object]) -> str:
    """Definition list of a mapping of plain values; nested mappings are joined in one line."""
    parts = [
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_fact(value))}</dd>" for name, value in values.items()
    ]
    return f"<dl>{''.join(parts)}</dl>"


def _cell(column: Column, value: Cell) -> str:
    key = f' data-value="{value.value}"' if isinstance(value, Html) and value.value is not None else ""
    return f'<td class="{column.kind}"{key}>{html(value)}</td>'


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_fact(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(item) for item in value) or "none"
    return text.value_text(value)
