"""Trials of a study: chosen by state, sorted, as a table and as files."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dashboards.text import milliseconds, miou, seconds
from objectives.objective import OBJECTIVES, Objective, extra_objectives
from objectives.trial_record import Outcome, State, TrialRecord
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from search_spaces._common.names import unknown_name
from search_spaces.describe import network_words
from trial_runner.front.columns import Column, print_columns
from trial_runner.front.table import target_ms, target_names

RUNNING, WAITING = "running", "waiting"
STATES = (*(str(outcome) for outcome in Outcome), RUNNING, WAITING)
"""Words for the state of a trial: how it ended, or that it has not."""

_Key = Callable[[TrialRecord], float | None]
SORT_KEYS: Mapping[str, tuple[_Key, bool]] = {
    "trial": (lambda record: float(record.number), False),
    "miou": (lambda record: record.val_miou, True),
    "latency": (lambda record: record.latency_ms, False),
    "measured": (lambda record: record.measured_ms, False),
    "duration": (lambda record: record.duration_s, True),
    "epochs": (lambda record: float(record.score.epoch) if record.score else None, True),
}
"""Keys to sort by, each with its value and True where the largest comes first."""


def state_word(record: TrialRecord) -> str:
    """Return the word of `STATES` for a trial; ``fail`` for one whose driver died before it began."""
    if record.outcome is not None:
        return str(record.outcome)
    return {State.RUNNING: RUNNING, State.WAITING: WAITING}.get(record.state, record.state.lower())


def chosen(
    records: Iterable[TrialRecord], states: Sequence[str] = (), sort: str = "trial", *, reverse: bool = False
) -> list[TrialRecord]:
    """Return the trials in some states, sorted.

    Args:
        records: of a study.
        states: words of `STATES`; all trials where there are none.
        sort: a key of `SORT_KEYS`, best first; trials without a value come last.
        reverse: worst first.

    Raises:
        UserError: a state or key is not known.
    """
    for state in states:
        if state not in STATES:
            raise unknown_name("state", state, STATES)
    if sort not in SORT_KEYS:
        raise unknown_name("key to sort by", sort, SORT_KEYS)
    value_of, largest_first = SORT_KEYS[sort]
    sign = -1.0 if largest_first != reverse else 1.0

    def place(record: TrialRecord) -> tuple[bool, float, int]:
        value = value_of(record)
        known = value is not None and not math.isnan(value)
        return not known, sign * value if value is not None and known else 0.0, record.number

    return sorted((record for record in records if not states or state_word(record) in states), key=place)


def print_trials(
    records: Sequence[TrialRecord], console: Console, objectives: Sequence[Objective] = OBJECTIVES
) -> None:
    """Print trials as a table."""

    def column(name: str, rank: int, cell: Callable[[TrialRecord], str], *, left: bool = False) -> Column:
        return Column(name, rank, [cell(record) for record in records], left=left, shrinks=name == "network")

    others = [
        column(item.label, 3, lambda record, item=item: item.text(item.value(record)))  # type: ignore[misc]
        for item in extra_objectives(objectives)
    ]
    columns = [
        column("trial", 0, lambda record: str(record.number)),
        column("state", 0, state_word, left=True),
        column("network", 1, lambda record: network_words(record.params) if record.params else "–", left=True),
        column("mIoU", 0, lambda record: miou(record.val_miou)),
        column("epochs", 4, _epochs),
        *others,
        column("predicted ms", 0, lambda record: milliseconds(record.latency_ms)),
        column("measured ms", 2, lambda record: milliseconds(record.measured_ms)),
        *(column(f"{name} ms", 2, lambda record, name=name: target_ms(record, name)) for name in target_names(records)),  # type: ignore[misc]
        column("duration", 5, lambda record: seconds(record.duration_s)),
    ]
    print_columns(columns, None, console, elsewhere="--json and --csv have all values")


def write_trials(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of `trial_rows` to a ``.csv`` or ``.parquet`` file, with one column for each key that occurs.

    Raises:
        UserError: the suffix is another one, or the file cannot be written.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UserError(
            f"trials are written to .csv or .parquet files, not to {path.name}. Choose one of these suffixes."
        )
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            _write_parquet(rows, columns, temporary)
            return
        with temporary.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(columns)
            writer.writerows([row.get(name) for name in columns] for row in rows)


def _write_parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: Path) -> None:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    table = {name: _one_type([row.get(name) for row in rows]) for name in columns}
    parquet.write_table(pyarrow.table(table), path)


def _one_type(values: list[Any]) -> list[Any]:
    """Return values of one type: numbers, texts or truths; mixed ones as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and len(kinds) > 1:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1 or not kinds <= {int, float, str, bool}:
        return [None if value is None else str(value) for value in values]
    return values


def _epochs(record: TrialRecord) -> str:
    if record.score is None:
        return str(record.curve[-1][0]) if record.curve else "–"
    return f"{record.score.epoch}/{record.score.epochs_total}"
