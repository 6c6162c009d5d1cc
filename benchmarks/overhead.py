"""Overhead of a study beside its trainings: trials per second, time of a proposal, memory, and lag under many workers.

    python -m benchmarks.overhead --json OUT [--storage URL] [--trials 100,1000,5000] [--workers 64,256,1024] [--minutes 5] [--ray 100]

All trials train nothing. First one trial runs after the other: Optuna alone, random and without any rule, is the storage's own
limit; the product's driver stores the same space and the same curves, with candidates, predictions, constraints and scores beside
them, and applies its rules. A row is the mean over the last 100 trials before its number of trials. Then the driver serves simulated
workers, each of which reports every 30 s; the clock is simulated, the driver's work is real. The default storage is SQLite in a
temporary folder; ``--storage`` names an empty database on a server. ``--ray`` is the number of trials of Ray Tune alone; 0 leaves it out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna

from benchmarks.no_op.rates import OPTUNA, SYSTEMS, rates
from benchmarks.no_op.ray_tune import ray_tune_row
from benchmarks.no_op.workers import lags
from search_spaces._common.files import write_json

EPOCHS = 6
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument("--storage", help="URL of an empty database; its names must be free")
    parser.add_argument("--trials", default="100,1000,5000")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--workers", default="64,256,1024", help="numbers of simulated workers; empty for none")
    parser.add_argument("--sampler", default="known_cost", help="of the study that serves the workers")
    parser.add_argument("--minutes", type=float, default=5.0, help="simulated minutes under the workers")
    parser.add_argument("--ray", type=int, default=100)
    options = parser.parse_args(arguments)
    counts, rows, queues = _numbers(options.trials), [], []
    with tempfile.TemporaryDirectory() as name:
        for at, system in enumerate(options.systems.split(",")):
            folder = Path(name) / str(at)
            folder.mkdir()
            url = options.storage or f"sqlite:///{folder}/study.db"
            rows += alone(rates, system, url, folder, counts, EPOCHS)
            _save(options.json, rows, queues)
        if options.ray:
            folder = Path(name) / "ray"
            folder.mkdir()
            url = options.storage or f"sqlite:///{folder}/study.db"
            rows.append(alone(ray_tune_row, url, folder, options.ray, EPOCHS))
            _save(options.json, rows, queues)
        for workers in _numbers(options.workers):
            folder = Path(name) / f"w{workers}"
            folder.mkdir()
            url = options.storage or f"sqlite:///{folder}/study.db"
            queues.append(alone(lags, url, folder, options.sampler, workers, options.minutes))
            _save(options.json, rows, queues)
    print(table(rows))
    print(lag_table(queues))


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, whose memory is that of the work."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_quiet) as pool:
        return pool.submit(work, *arguments).result()


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _save(path: Path, rows: Sequence[Row], queues: Sequence[Row]) -> None:
    write_json(path, {"rates": list(rows), "workers": list(queues)})


def table(rows: Sequence[Row]) -> str:
    """Return the table of rates, with the time of a trial as a multiple of the storage's own."""
    limit = {row["trials"]: row["trials_per_s"] for row in rows if row["system"] == OPTUNA}
    lines = [
        "| system | at trial | trials/s | × the storage's time | CPU ms per trial | ask + tell ms | memory MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        base = limit.get(row["trials"])
        times = f"{base / row['trials_per_s']:.2f}" if base else "–"
        rest = [f"{row[key]:.0f}" if key in row else "–" for key in ("cpu_ms", "ask_tell_ms", "memory_mib")]
        cells = [row["system"], f"{row['trials']:,}", f"{row['trials_per_s']:.1f}", times, *rest]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def lag_table(queues: Sequence[Row]) -> str:
    """Return the table of lags under simulated workers."""
    lines = [
        "| workers | reports | lag s, median | 99 % | maximum | driver busy | proposal ms | report ms | end ms | most time |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in queues:
        lag = [f"{row[f'lag_s_{kind}']:.3f}" for kind in ("median", "p99", "max")]
        each = [f"{row[f'{kind}_ms']:.1f}" for kind in ("proposal", "report", "end")]
        cells = [f"{row['workers']:,}", f"{row['reports']:,}", *lag, f"{100 * row['busy']:.0f} %", *each, row["most"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
