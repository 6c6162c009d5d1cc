"""The front as rows: for the terminal, for JSON, for a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from objectives.pareto import pareto_front
from objectives.trial_record import TrialRecord
from search_spaces.files import atomic_path


def front_records(records: Sequence[TrialRecord], budget_ms: float) -> list[TrialRecord]:
    """The front within the budget, fastest first. What was measured decides over what was predicted whether it is within."""
    return [r for r in pareto_front(records).records if known_latency_ms(r) <= budget_ms]


def known_latency_ms(record: TrialRecord) -> float:
    """Measured where measured, else predicted. Infinity for a record with neither."""
    if record.measured_ms is not None:
        return record.measured_ms
    return record.latency_ms if record.latency_ms is not None else float("inf")


def front_rows(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """One object per member; None where not measured or not exported."""
    return [
        {
            "trial": record.number,
            "params": record.params,
            "val_miou": record.val_miou,
            "latency_ms": record.latency_ms,
            "latency_low_ms": record.latency_low_ms,
            "latency_high_ms": record.latency_high_ms,
            "latency_coverage": record.coverage,
            "measured_ms": record.measured_ms,
            "macs": record.score.macs if record.score else None,
            "parameters": record.score.params if record.score else None,
            "bundle": record.bundle,
            "export_error": record.export_error,
        }
        for record in records
    ]


def print_front(records: Sequence[TrialRecord], budget_ms: float, console: Console) -> None:
    """The table a person reads, with where the bundles lie below it."""
    if not records:
        console.print(f"No finished trial within {budget_ms:g} ms yet: the front is empty.")
        return
    table = Table(title=f"Pareto front within {budget_ms:g} ms", title_justify="left")
    columns = ["trial", "network", "input", "prune", "mIoU", "predicted ms", "90 % interval", "measured ms", "inside"]
    for name in columns:
        table.add_column(name, justify="left" if name in ("network", "input") else "right", no_wrap=True)
    for record in records:
        params = record.params
        inside = _inside(record)
        table.add_row(
            str(record.number),
            f"{params.get('family')} ×{params.get('width')} + {params.get('decoder')}",
            str(params.get("resolution")),
            str(params.get("prune_ratio")),
            f"{record.val_miou:.3f}",
            f"{record.latency_ms:.2f}",
            f"{record.latency_low_ms:.2f}–{record.latency_high_ms:.2f}",
            "–" if record.measured_ms is None else f"{record.measured_ms:.2f}",
            {None: "–", True: "yes", False: "no"}[inside],
        )
    console.print(table)


def write_csv(records: Sequence[TrialRecord], path: Path) -> None:
    rows = front_rows(records)
    keys = [key for key in (rows[0] if rows else {"trial": None}) if key != "params"]
    params = sorted({name for row in rows for name in row["params"]})
    with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow([*keys, *params])
        for row in rows:
            writer.writerow([*(row[key] for key in keys), *(row["params"].get(name) for name in params)])


def _inside(record: TrialRecord) -> bool | None:
    if record.measured_ms is None or record.latency_low_ms is None or record.latency_high_ms is None:
        return None
    return record.latency_low_ms <= record.measured_ms <= record.latency_high_ms
