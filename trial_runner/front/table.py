"""The front as a table: for the terminal, JSON and CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dashboards.text import inside_interval, milliseconds, miou
from objectives.objective import LATENCY, OBJECTIVES, Objective, budget_texts, extra_objectives
from objectives.pareto import pareto_front
from objectives.trial_record import TrialRecord, estimate_facts
from search_spaces._common.files import atomic_path
from search_spaces.describe import network_name


def front_records(
    records: Sequence[TrialRecord], budget_ms: float, objectives: Sequence[Objective] = OBJECTIVES
) -> list[TrialRecord]:
    """Return the front within the latency budget and those of all objectives, best in the last objective first (fastest). A
    measured latency takes precedence over the predicted one."""
    others = [item for item in objectives if item.name != LATENCY.name]
    members = pareto_front(records, objectives=objectives).records
    return [r for r in members if known_latency_ms(r) <= budget_ms and all(item.holds(r) for item in others)]


def known_latency_ms(record: TrialRecord) -> float:
    """Return the measured latency, else the predicted one, in milliseconds; infinity for a record with neither."""
    if record.measured_ms is not None:
        return record.measured_ms
    return record.latency_ms if record.latency_ms is not None else float("inf")


def front_rows(records: Sequence[TrialRecord], objectives: Sequence[Objective] = OBJECTIVES) -> list[dict[str, Any]]:
    """One object per member; None where not measured or not exported."""
    return [
        {
            "trial": record.number,
            "params": record.params,
            "precision": record.precision,
            "val_miou": record.val_miou,
            "float_miou": record.float_miou,
            **estimate_facts(record),
            "measured_ms": record.measured_ms,
            "macs": record.score.macs if record.score else None,
            "parameters": record.score.params if record.score else None,
            "bundle": record.bundle,
            "export_error": record.export_error,
            "objectives": {item.name: _number(item.value(record)) for item in objectives},
        }
        for record in records
    ]


def print_front(
    records: Sequence[TrialRecord],
    budget_ms: float,
    console: Console,
    objectives: Sequence[Objective] = OBJECTIVES,
) -> None:
    """Print the front as a table; objectives other than mIoU and latency have their own columns."""
    limited = [item for item in objectives if item.name != LATENCY.name]
    within = ", ".join([f"{budget_ms:g} ms", *budget_texts(limited)])
    if not records:
        console.print(f"No finished trial within {within} yet: the front is empty.")
        return
    table = Table(title=f"Pareto front within {within}", title_justify="left")
    others = extra_objectives(objectives)
    several = any(record.precision not in ("fp32", None) for record in records)
    precision = ["precision", "float mIoU"] if several else []
    columns = ["trial", "network", "input", "prune", *precision, "mIoU", *(item.label for item in others)]
    columns += ["predicted ms", "90 % interval", "measured ms", "inside"]
    for name in columns:
        table.add_column(name, justify="left" if name in ("network", "input") else "right", no_wrap=True)
    for record in records:
        params = record.params
        table.add_row(
            str(record.number),
            network_name(params),
            str(params.get("resolution")),
            str(params.get("prune_ratio")),
            *([record.precision or "–", miou(record.float_miou)] if several else []),
            miou(record.val_miou),
            *(item.text(item.value(record)) for item in others),
            milliseconds(record.latency_ms),
            f"{milliseconds(record.estimate.low_ms)}–{milliseconds(record.estimate.high_ms)}"
            if record.estimate
            else "–",
            milliseconds(record.measured_ms),
            {None: "–", True: "yes", False: "no"}[inside_interval(record)],
        )
    console.print(table)


def write_csv(records: Sequence[TrialRecord], path: Path, objectives: Sequence[Objective] = OBJECTIVES) -> None:
    """Write the rows as CSV, with a column for each parameter and each objective besides mIoU and latency."""
    found = front_rows(records, objectives)
    others = [item.name for item in extra_objectives(objectives)]
    rows = [{**{name: row["objectives"][name] for name in others}, **row} for row in found]
    keys = ["trial", *(key for key in (rows[0] if rows else {}) if key not in ("trial", "params", "objectives"))]
    params = sorted({name for row in rows for name in row["params"]} - set(keys))
    with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow([*keys, *params])
        for row in rows:
            writer.writerow([*(row[key] for key in keys), *(row["params"].get(name) for name in params)])


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if math.isnan(value) else value
