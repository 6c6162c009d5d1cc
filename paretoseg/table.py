"""Rows of results: for a loop, a notebook, or pandas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from search_spaces._common.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

_WIDEST = 28


class Table:
    """A sequence of rows, each a dict with the same keys.

    A notebook shows it as an HTML table, ``print`` as text.

    Args:
        rows: values by column; a missing one becomes None. Columns come in the order of their first row.
        shown: columns that are displayed; all of them by default. Rows and data frames hold every column.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], shown: Sequence[str] | None = None) -> None:
        self.columns = tuple(dict.fromkeys(name for row in rows for name in row))
        self.rows = tuple({name: row.get(name) for name in self.columns} for row in rows)
        self._shown = [name for name in self.columns if shown is None or name in shown]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def column(self, name: str) -> list[Any]:
        """Return the values of one column.

        Raises:
            KeyError: there is no such column.
        """
        if name not in self.columns:
            raise KeyError(f"no column {name!r}; there are {', '.join(self.columns)}")
        return [row[name] for row in self.rows]

    def to_dataframe(self) -> DataFrame:
        """Return the rows as a pandas data frame.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise UserError("a data frame needs pandas, which is not installed. Run: pip install pandas") from error
        return pandas.DataFrame(list(self.rows), columns=list(self.columns))

    def __repr__(self) -> str:
        if not self.rows:
            return "Table(0 rows)"
        cells = [self._shown, *([_text(row[name])[:_WIDEST] for name in self._shown] for row in self.rows)]
        widths = [max(len(row[at]) for row in cells) for at in range(len(self._shown))]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the shown columns as an HTML table, as notebooks display it."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self._shown)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_text(row[name]))}</td>' for name in self._shown)}</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
