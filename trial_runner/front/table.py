"""The front as a table: for the terminal, JSON and CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dashboards.text import inside_interval, milliseconds, miou
from objectives.objective import LATENCY, OBJECTIVES, Objective, budget_texts, extra_objectives
from objectives.pareto import pareto_front
from objectives.trial_record import TrialRecord, estimate_facts
from search_spaces._common.files import atomic_path
from search_spaces.describe import network_name
from trial_runner.front.columns import Column, print_columns


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
    """One object per member; None where not measured or not exported. Only studies of several targets have a key ``targets``, and
    only those with an engine built on a board ``engine_miou``."""
    targets, engines = target_names(records), any(record.engine for record in records)
    return [
        {
            "trial": record.number,
            "params": record.params,
            "precision": record.precision,
            "val_miou": record.val_miou,
            "float_miou": record.float_miou,
            **estimate_facts(record),
            **({"targets": {name: target_facts(record, name) for name in targets}} if targets else {}),
            "measured_ms": record.measured_ms,
            **({"engine_miou": engine_miou(record)} if engines else {}),
            "macs": record.score.macs if record.score else None,
            "parameters": record.score.params if record.score else None,
            "bundle": record.bundle,
            "export_error": record.export_error,
            **({"superseded": True} if record.superseded else {}),
            "objectives": {item.name: _number(item.value(record)) for item in objectives},
        }
        for record in records
    ]


def engine_miou(record: TrialRecord) -> float | None:
    """Return the mIoU that the trial's engine reached on the board's images; None without an engine or labels."""
    value = (record.engine or {}).get("miou")
    return None if value is None else float(value)


def target_names(records: Sequence[TrialRecord]) -> list[str]:
    """Return the further targets that the records have a latency on, in their order."""
    return list(dict.fromkeys(name for record in records for name in record.targets))


def target_facts(record: TrialRecord, target: str) -> dict[str, float | None]:
    """Return a trial's predicted latency on a further target in ms, with its interval; None without a prediction."""
    estimate = record.targets.get(target)
    return {
        "latency_ms": estimate.latency_ms if estimate else None,
        "latency_low_ms": estimate.low_ms if estimate else None,
        "latency_high_ms": estimate.high_ms if estimate else None,
    }


def trial_rows(records: Sequence[TrialRecord], objectives: Sequence[Objective] = OBJECTIVES) -> list[dict[str, Any]]:
    """One flat object per trial: outcome, dimensions, the values of `front_rows`, objectives, duration in seconds and reason."""
    return [
        {
            "trial": record.number,
            "outcome": str(record.outcome or record.state.lower()),
            **flat_row(row),
            "epoch": record.score.epoch if record.score else None,
            "duration_s": record.duration_s,
            "reason": record.reason,
        }
        for record, row in zip(records, front_rows(records, objectives), strict=True)
    ]


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `front_rows` with its dimensions, objectives and targets (``TARGET_latency_ms``) as columns of their own."""
    params = row["params"]
    rest = {key: value for key, value in row.items() if key not in ("trial", "params", "objectives", "targets")}
    rest |= target_columns(row)
    others = {name: value for name, value in row["objectives"].items() if name not in rest}
    return {"trial": row["trial"], "network": network_name(params) if params else None, **others, **params, **rest}


def target_columns(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the latencies of a row of `front_rows` on the further targets, as ``TARGET_latency_ms`` and the like."""
    return {f"{name}_{key}": value for name, facts in row.get("targets", {}).items() for key, value in facts.items()}


def print_front(
    records: Sequence[TrialRecord],
    budget_ms: float,
    console: Console,
    objectives: Sequence[Objective] = OBJECTIVES,
    *,
    target: str | None = None,
) -> None:
    """Print the front as a table; objectives other than mIoU and latency have their own columns.

    Args:
        target: name of the target whose latencies they are, where it is not the study's first one.
    """
    limited = [item for item in objectives if item.name != LATENCY.name]
    budgets = [f"{budget_ms:g} ms"] if math.isfinite(budget_ms) else []
    within = ", ".join([*budgets, *budget_texts(limited)])
    place = f" on {target}" if target else ""
    if not records:
        console.print(f"No finished trial{place}{f' within {within}' if within else ''} yet: the front is empty.")
        return
    several = any(record.precision not in ("fp32", None) for record in records)
    columns = _columns(records, extra_objectives(objectives), several, [] if target else target_names(records))
    title = f"Pareto front{place} within {within}" if within else f"Pareto front{place}"
    print_columns(columns, title, console, elsewhere="front.csv and --json have all values")


_NETWORK = "network"


def _columns(
    records: Sequence[TrialRecord], others: Sequence[Objective], several_precisions: bool, targets: Sequence[str]
) -> list[Column]:
    def column(name: str, rank: int, cell: Callable[[TrialRecord], str], *, left: bool = False) -> Column:
        return Column(name, rank, [cell(record) for record in records], left=left, shrinks=name == _NETWORK)

    engines = any(record.engine for record in records)
    precision = [
        column("precision", 3, lambda record: record.precision or "–"),
        column("float mIoU", 5, lambda record: miou(record.float_miou)),
    ]
    return [
        column("trial", 0, lambda record: str(record.number)),
        column(_NETWORK, 1, lambda record: network_name(record.params), left=True),
        column("input", 4, lambda record: str(record.params.get("resolution", "–")), left=True),
        column("prune", 6, lambda record: str(record.params.get("prune_ratio", "–"))),
        *(precision if several_precisions else []),
        column("mIoU", 0, lambda record: miou(record.val_miou)),
        *(column(item.label, 0, lambda record, item=item: item.text(item.value(record))) for item in others),  # type: ignore[misc]
        column("predicted ms", 0, lambda record: milliseconds(record.latency_ms)),
        column("90 % interval", 2, _interval),
        column("measured ms", 0, lambda record: milliseconds(record.measured_ms)),
        *([column("engine mIoU", 3, lambda record: miou(engine_miou(record)))] if engines else []),
        *(column(f"{name} ms", 2, lambda record, name=name: target_ms(record, name)) for name in targets),  # type: ignore[misc]
        column("inside", 7, lambda record: {None: "–", True: "yes", False: "no"}[inside_interval(record)]),
    ]


def target_ms(record: TrialRecord, target: str) -> str:
    """Return a trial's latency on a further target as text."""
    estimate = record.targets.get(target)
    return milliseconds(estimate.latency_ms) if estimate else "–"


def _interval(record: TrialRecord) -> str:
    estimate = record.estimate
    return f"{milliseconds(estimate.low_ms)}–{milliseconds(estimate.high_ms)}" if estimate else "–"


def write_csv(records: Sequence[TrialRecord], path: Path, objectives: Sequence[Objective] = OBJECTIVES) -> None:
    """Write the rows as CSV, with a column for each parameter and each objective besides mIoU and latency."""
    found = front_rows(records, objectives)
    others = [item.name for item in extra_objectives(objectives)]
    rows = [{**{name: row["objectives"][name] for name in others}, **row, **target_columns(row)} for row in found]
    apart = ("trial", "params", "objectives", "targets")
    keys = ["trial", *(key for key in (rows[0] if rows else {}) if key not in apart)]
    params = sorted({name for row in rows for name in row["params"]} - set(keys))
    with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow([*keys, *params])
        for row in rows:
            writer.writerow([*(row[key] for key in keys), *(row["params"].get(name) for name in params)])


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if math.isnan(value) else value
