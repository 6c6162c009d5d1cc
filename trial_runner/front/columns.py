"""Tables for a terminal of any width: columns are folded, shortened and left out until the rest fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_LEAST_WIDTH = 20


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: heading.
        rank: columns of the highest rank are left out first; rank 0 is always shown.
        cells: text of each row.
        left: aligned to the left.
        shrinks: shortened to 20 characters before columns are left out; one column at most.
    """

    name: str
    rank: int
    cells: list[str]
    left: bool = False
    shrinks: bool = False

    @property
    def width(self) -> int:
        """Characters that the heading and the cells need."""
        return max(cell_len(text) for text in (*self.name.split("\n"), *self.cells))


def print_columns(columns: Sequence[Column], title: str | None, console: Console, *, elsewhere: str) -> None:
    """Print a table that fits the console's width.

    Args:
        columns: with as many cells each.
        title: above the table; None for no title.
        console: to print to.
        elsewhere: tells where the values of columns that do not fit are, as ``--json has all values``.
    """
    shown, shrunk_width = _fitting(columns, console.width)
    needed = sum((shrunk_width if column.shrinks else column.width) + 3 for column in shown) + 1
    wide = needed if needed > console.width else None  # lines longer than the terminal's, rather than empty cells
    table = Table(title=title, title_justify="left", width=wide)
    for column in shown:
        width = shrunk_width if column.shrinks else None
        justify: Literal["left", "right"] = "left" if column.left else "right"
        table.add_column(column.name, justify=justify, max_width=width, no_wrap=True, overflow="ellipsis")
    for row in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*map(Text, row))  # names of users are no markup
    console.print(table, crop=False, soft_wrap=True)
    names = [column.name.replace("\n", " ") for column in shown]
    hidden = [column.name for column in columns if column.name not in names]
    if hidden:
        console.print(f"not shown at {console.width} columns: {', '.join(hidden)}; {elsewhere}", markup=False)


def _fitting(columns: Sequence[Column], width: int) -> tuple[list[Column], int]:
    """Return the columns that fit into ``width`` characters, and the width of the one that shrinks.

    Where not all fit as they are, headings are folded, that one is shortened, and columns are dropped by rank.
    """
    shown = list(columns)
    if sum(column.width + 3 for column in shown) + 1 > width:
        shown = [replace(column, name="\n".join(column.name.rsplit(" ", 1))) for column in shown]
    while True:
        taken = sum(column.width + 3 for column in shown if not column.shrinks) + 1
        shrinking = next((column for column in shown if column.shrinks), None)
        droppable = [column for column in shown if column.rank]
        if shrinking is None and (taken <= width or not droppable):
            return shown, 0
        left = width - taken - 3
        if shrinking is not None and (left >= min(shrinking.width, _LEAST_WIDTH) or not droppable):
            return shown, max(min(left, shrinking.width), 1)
        shown.remove(max(droppable, key=lambda column: column.rank))
