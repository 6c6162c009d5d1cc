"""`paretoseg fit-latency`: predict a device's latencies in a table from few of them and from those of other devices."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces._common.errors import UserError
from trial_runner.cli.console import say, say_json

if TYPE_CHECKING:
    from hw_latency_model.few_shot.latency_table import LatencyTable

HELP = "Predict a device's latencies in a table from few of them and other devices' columns."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "table",
        type=Path,
        metavar="TABLE.csv",
        help="networks (column onnx, candidate or arch_str) and their latencies in ms, one column a device, empty where not measured",
    )
    parser.add_argument("--target", metavar="COL", required=True, help="device to predict")
    parser.add_argument(
        "--samples", metavar="N", type=int, help="measurements of the target to use (default: all); the rest are judged"
    )
    parser.add_argument("--sources", metavar="COL,…", default="", help="devices to learn from (default: none)")
    parser.add_argument(
        "--selection",
        choices=("active", "random"),
        default="active",
        help="which N: those that say most of the others, or random ones (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the predictions of all rows as CSV")
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    import numpy as np

    from hw_latency_model.few_shot.evaluation import fit_and_judge
    from hw_latency_model.few_shot.fit import MIN_MEASUREMENTS
    from hw_latency_model.few_shot.latency_table import LatencyTable
    from hw_latency_model.few_shot.transfer import FewShotModel
    from search_spaces._common.files import atomic_path

    table = LatencyTable.read(arguments.table)
    sources = _sources(arguments)
    latency_ms = table.latencies(arguments.target)
    columns = [table.latencies(name) for name in sources]
    model = FewShotModel(table.pool(np.stack(columns, axis=1) if columns else None))
    known = int(np.isfinite(latency_ms).sum())
    count = known if arguments.samples is None else arguments.samples
    if count < MIN_MEASUREMENTS:
        raise UserError(
            f"{count} measured networks are too few for a model, which needs {MIN_MEASUREMENTS}. Measure more, or raise --samples. "
            + _next_rows(model, table, MIN_MEASUREMENTS)
        )
    if count > known:
        raise UserError(
            f"column {arguments.target} of {arguments.table} has {known} latencies, fewer than --samples {count}. "
            + _next_rows(model, table, count)
        )
    trial = fit_and_judge(model, latency_ms, count, seed=arguments.seed, selection=arguments.selection)
    found, measured = model.predict(), set(trial.measured.tolist())
    rows = [
        {
            "row": row + 2,
            "network": name,
            "latency_ms": float(found.latency_ms[row]),
            "low_ms": float(found.low_ms[row]),
            "high_ms": float(found.high_ms[row]),
            "measured_ms": float(latency_ms[row]) if np.isfinite(latency_ms[row]) else None,
            "used": row in measured,
        }
        for row, name in enumerate(table.networks)
    ]
    if arguments.out:
        with atomic_path(arguments.out) as temporary:
            temporary.write_text(_as_csv(rows), newline="")
    names = ("sources", "no_sources", "macs") if sources else ("no_sources", "macs")
    weights = dict(zip(names, map(float, model.weights), strict=False))
    if arguments.json:
        facts = {"target": arguments.target, "sources": sources, "samples": count, "selection": arguments.selection}
        say_json({**facts, "weights": weights, "judged": trial.figures, "predictions": rows})
        return 0
    say(f"{count} of {known} latencies of {arguments.target} used, {len(rows)} networks predicted")
    if len(weights) > 1:
        shares = {"sources": "with the sources", "no_sources": "without sources", "macs": "from MACs alone"}
        say("weights: " + ", ".join(f"{weight:.0%} {shares[name]}" for name, weight in weights.items()))
    if trial.figures is None:
        say("nothing is left to judge the model by: give fewer --samples to see its errors")
    else:
        figures = trial.figures
        say(
            f"on the others: Spearman {figures['spearman']:.3f}, mean error {figures['mape']:.1%}, within 10 %: {figures['within10']:.0%}, "
            f"inside the {found.level:.0%} interval: {figures['coverage90']:.0%} (half width {figures['half_width']:.0%})"
        )
    if arguments.out:
        say(f"predictions: {arguments.out}")
    return 0


def _sources(arguments: argparse.Namespace) -> list[str]:
    """Return the columns of ``--sources``.

    Raises:
        UserError: the target is among them, or one is named twice.
    """
    names = [name.strip() for name in arguments.sources.split(",") if name.strip()]
    if arguments.target in names:
        raise UserError(
            f"--target {arguments.target} is among --sources: a device cannot predict itself. Leave it out."
        )
    if len(set(names)) < len(names):
        raise UserError("--sources names a column twice. Name each once.")
    return names


def _next_rows(model: Any, table: LatencyTable, count: int) -> str:
    """Return a sentence on the networks to measure."""
    if count > len(table.networks):
        return f"The table has only {len(table.networks)} networks: add some."
    chosen = sorted(int(row) + 2 for row in model.suggest(max(count, 1)))
    return f"The {len(chosen)} networks that say most of the others are in rows {', '.join(map(str, chosen))}."


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
