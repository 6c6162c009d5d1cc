"""Samplers side by side on NAS-Bench-201: how many cells must be trained to know the front of accuracy and latency.

    python -m benchmarks.search_nb201 --data FILE.csv.gz --targets COL,... --samplers known_cost,random,... --seeds 10 \
        --evaluations 100 --json OUT [--first-seed 0] [--accuracy COL] [--workers 1] [--noise 0]

FILE holds all 15,625 cells: a column arch_str, one of accuracies in per cent, and one of latencies in ms per device. Cells
without a latency, whose output nothing of the input reaches, count as accuracy 1 and the slowest latency. A hypervolume is that
of all cells evaluated, the initial ones included, as a share of the true front's; the reference point is accuracy 0 and
the slowest latency. With workers, trials run at once, each for a random time; with noise, the accuracies told have a normal
error of that standard deviation, and hypervolumes are of the true ones. OUT keeps what is done: run again, it continues.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna

from benchmarks.cell_search.samplers import SAMPLERS, Unavailable, searcher
from benchmarks.cell_search.simulate import replay
from benchmarks.cell_search.table import CellTable, accuracy_column, read_tables
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json

GOAL = 0.99
AT = (25, 50, 100, 200)

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CSV, gzipped or not")
    parser.add_argument("--targets", required=True, help="columns of latencies, comma-separated")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help=f"of {', '.join(SAMPLERS)}")
    parser.add_argument("--accuracy", help="column of accuracies; by default CIFAR-100's, or the only one")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1, help="trials that run at once")
    parser.add_argument(
        "--noise", type=float, default=0.0, help="standard deviation of the accuracies told, in per cent"
    )
    parser.add_argument(
        "--latency-error",
        type=float,
        default=0.0,
        help="standard deviation of the logarithm of predicted over true latency",
    )
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        settings = {"workers": options.workers, "noise": options.noise, "latency_error": options.latency_error}
        run(
            options.data,
            _names(options.targets),
            _names(options.samplers),
            range(options.first_seed, options.first_seed + options.seeds),
            options.evaluations,
            options.json,
            accuracy=options.accuracy,
            **settings,
        )
    except UserError as error:
        parser.error(str(error))


def run(
    data: Path,
    targets: Sequence[str],
    samplers: Sequence[str],
    seeds: Sequence[int],
    evaluations: int,
    out: Path,
    *,
    accuracy: str | None = None,
    workers: int = 1,
    noise: float = 0.0,
    latency_error: float = 0.0,
) -> dict[str, Any]:
    """Search with each sampler and seed on each target; the rows and the table of goals, written after every search.

    Raises:
        UserError: a sampler or column does not exist, or the results at ``out`` are of another data set or other settings.
    """
    unknown = [name for name in samplers if name not in SAMPLERS]
    if unknown:
        raise UserError(f"there is no sampler {', '.join(unknown)}; choose of {', '.join(SAMPLERS)}.")
    column = accuracy_column(data, accuracy)
    tables = read_tables(data, targets, column)
    settings = {"accuracy": column, "workers": workers, "noise": noise, "evaluations": evaluations}
    settings |= {"latency_error": latency_error} if latency_error else {}
    rows, skipped = _resumed(out, settings), dict[str, str]()
    for target, name in ((target, name) for target in targets for name in samplers):
        done = {row["seed"] for row in rows if (row["target"], row["sampler"]) == (target, name)}
        for seed in seeds:
            if seed in done or name in skipped:
                continue
            try:
                table = tables[target].with_latency_error(latency_error, seed)
                rows += search(table, target, name, seed, evaluations, workers=workers, noise=noise)
            except Unavailable as why:
                skipped[name] = str(why)
                print(f"{name} is skipped: {why}", flush=True)
            else:
                _write(out, rows, skipped, settings)
        for row in goals([row for row in rows if (row["target"], row["sampler"]) == (target, name)]):
            print(_line(row), flush=True)
    return _write(out, rows, skipped, settings)


def search(
    table: CellTable, target: str, name: str, seed: int, evaluations: int, *, workers: int, noise: float
) -> list[Row]:
    """One search: a row per evaluation.

    Raises:
        Unavailable: the sampler needs a package that is not installed.
    """
    history, seconds = replay(table, searcher(name, table, seed), evaluations, seed=seed, workers=workers, noise=noise)
    return [
        {
            "target": target,
            "sampler": name,
            "seed": seed,
            "evaluations": at + 1,
            "hypervolume": round(value, 6),
            "ask_s": round(seconds / evaluations, 4),
        }
        for at, value in enumerate(history)
    ]


def goals(rows: Sequence[Row]) -> list[Row]:
    """Per target and sampler: evaluations to 99 % (median and worst over the seeds, None for never), mean hypervolumes."""
    found = []
    for target, name in dict.fromkeys((row["target"], row["sampler"]) for row in rows):
        mine = [row for row in rows if (row["target"], row["sampler"]) == (target, name)]
        curves = {row["seed"]: dict[int, float]() for row in mine}
        for row in mine:
            curves[row["seed"]][row["evaluations"]] = row["hypervolume"]
        reached = sorted(
            min((at for at, value in curve.items() if value >= GOAL), default=np.inf) for curve in curves.values()
        )
        median = float(np.median(reached))
        row = {
            "target": target,
            "sampler": name,
            "seeds": len(curves),
            "reached": int(np.isfinite(reached).sum()),
            "evaluations_median": median if np.isfinite(median) else None,
            "evaluations_worst": float(reached[-1]) if np.isfinite(reached[-1]) else None,
            "ask_s": float(np.mean([row["ask_s"] for row in mine])),
        }
        for at in AT:
            values = [curve[at] for curve in curves.values() if at in curve]
            if values:
                row[f"mean_{at}"], row[f"sd_{at}"] = float(np.mean(values)), float(np.std(values))
        found.append(row)
    return found


def _resumed(out: Path, settings: Mapping[str, Any]) -> list[Row]:
    if not out.exists():
        return []
    stored = json.loads(out.read_text())
    if stored.get("settings") != settings:
        raise UserError(
            f"{out} holds results of {stored.get('settings')}, not of {dict(settings)}; name another file in --json."
        )
    return list(stored["rows"])


def _write(out: Path, rows: Sequence[Row], skipped: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    result = {"settings": settings, "goal": goals(rows), "skipped": skipped, "rows": list(rows)}
    write_json(out, result)
    return result


def _line(row: Row) -> str:
    median, worst = (row[f"evaluations_{name}"] for name in ("median", "worst"))
    shares = "  ".join(f"@{at} {row[f'mean_{at}']:.4f}±{row[f'sd_{at}']:.4f}" for at in AT if f"mean_{at}" in row)
    return (
        f"{row['target']:<28}{row['sampler']:<12}{shares}  99 %: "
        f"{'never' if median is None else f'{median:g}'} (worst {'never' if worst is None else f'{worst:g}'}, "
        f"{row['reached']}/{row['seeds']})  {row['ask_s']:.3f} s an ask"
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
