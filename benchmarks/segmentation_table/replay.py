"""Searches replayed on the table of real trainings: hypervolume over simulated wall-clock time.

    python -m benchmarks.segmentation_table.replay --json OUT [--arms A,B] [--seeds 20] [--first-seed 1000] [--workers 2,8]

Each arm is a configuration of the product's driver; trainings are answered by `curves.TableCurves`, latencies by the bundled model of
the Jetson Nano in FP16. Settings were tuned with seeds below 1000. A row of the JSON file is one replay: ``arm, workers, seed,
trainings, epochs, hypervolume`` (at each of ``TIMES`` shares of the budget). The table it prints gives medians over the seeds, their
ratio to random search with final training, and the share of the budget after which an arm has what that arm has at its end.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna

from benchmarks.segmentation_table.curves import TableCurves
from benchmarks.segmentation_table.simulator import Landscape, hypervolumes, replay
from benchmarks.segmentation_table.table import TABLE, Row, read_table
from benchmarks.segmentation_table.train import EPOCHS, study
from hw_latency_model.bundled.load import load_bundled
from search_spaces import open_space
from search_spaces._common.files import write_json
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency import LatencyConstraint

CLASSES = 11
BUDGET_MS = 6.0
CORE_MINUTES = 60.0
"""Simulated minutes of all workers together."""
TIMES = np.linspace(0.05, 1.0, 20)
BASELINE = "random+final"

FINAL = {"final_training": {"members": 4, "epochs": 2 * EPOCHS, "time_share": 0.5}}
RUNGS = {"early_stopping": {"rungs_epochs": [EPOCHS // 2], "reduction_factor": 2.0, "min_trials": 4}}
LOW_RUNGS = {"early_stopping": {"rungs_epochs": [1, EPOCHS // 2], "reduction_factor": 3.0, "min_trials": 4}}
PROMOTING = {"early_stopping": {**LOW_RUNGS["early_stopping"], "promote": True}}
AUTO_FINAL = {"final_training": {**FINAL["final_training"], "time_share": "auto"}}
KNOWN = {"sampler": "known_cost"}

ARMS: dict[str, dict[str, Any]] = {
    "random": {"sampler": "random"},
    "random+final": {"sampler": "random", **FINAL},
    "tpe+rungs+final": {"sampler": "tpe", "start": "stratified", **RUNGS, **FINAL},
    "nsga2": {"sampler": "nsga2"},
    "nsga2+final": {"sampler": "nsga2", **FINAL},
    "known_cost": KNOWN,
    "known_cost+stopping": {**KNOWN, **LOW_RUNGS},
    "known_cost+final": {**KNOWN, **FINAL},
    "known_cost+stopping+final": {**KNOWN, **LOW_RUNGS, **FINAL},
    "known_cost+promotion+final": {**KNOWN, **PROMOTING, **FINAL},
    "known_cost+promotion+auto final": {**KNOWN, **PROMOTING, **AUTO_FINAL},
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the rows; replays it holds are not repeated")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--workers", default="2,8")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    if not read_table(options.table):
        parser.error(f"there are no trainings in {options.table}; run benchmarks.segmentation_table.train")
    arms, workers = options.arms.split(","), [int(number) for number in options.workers.split(",")]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows: list[Row] = json.loads(options.json.read_text()) if options.json.is_file() else []
    there = {(row["arm"], row["workers"], row["seed"]) for row in rows}
    wanted = [(arm, number, seed) for number in workers for arm in arms for seed in seeds]
    missing = [item for item in wanted if item not in there]
    with ProcessPoolExecutor(options.jobs, initializer=_prepare, initargs=(options.table,)) as pool:
        for row in pool.map(_one, missing):
            rows.append(row)
            write_json(options.json, rows)
    curves = _curves(options.table, study_config())
    errors = curves.errors
    print(
        f"\n{len(read_table(options.table))} trainings; interpolation: RMSE {errors.final_rmse:.3f} mIoU, R² {errors.final_r2:.2f}, "
        f"rank correlation {errors.final_rank:.2f}; between seeds {errors.noise:.3f}; an epoch's seconds {errors.seconds_percent:.0f} %"
    )
    for number in workers:
        print_table([row for row in rows if row["workers"] == number and row["seed"] in seeds], arms)


def study_config() -> StudyConfig:
    """The study whose search is replayed."""
    return study(Path(), Path("/nonexistent"), "none", 1)


def _curves(table: Path, config: StudyConfig) -> TableCurves:
    dimensions = {item.name: item for item in open_space(config.space).dimensions}
    families, decoders = (dimensions[name].choices for name in ("family", "decoder"))  # type: ignore[attr-defined]
    return TableCurves(read_table(table), families, decoders)


_landscape: Landscape
_config: StudyConfig


def _prepare(table: Path) -> None:
    global _landscape, _config
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _config = study_config()
    space = open_space(_config.space)
    gate = LatencyConstraint(space, CLASSES, load_bundled("jetson-nano", "fp16"), BUDGET_MS)
    _landscape = Landscape(space, gate, _curves(table, _config))


def _one(item: tuple[str, int, int]) -> Row:
    arm, workers, seed = item
    minutes = CORE_MINUTES / workers
    search = {"trials": 100_000, "time_budget_minutes": minutes, **ARMS[arm]}
    config = StudyConfig.model_validate({**_config.model_dump(mode="json"), "search": search})
    device = config.device.model_copy(update={"latency_budget_ms": BUDGET_MS})
    found = replay(config.model_copy(update={"device": device}), _landscape, workers, seed)
    times_s = 60 * minutes * TIMES
    return {
        "arm": arm,
        "workers": workers,
        "seed": seed,
        "trainings": len(found.points),
        "epochs": found.epochs,
        "hypervolume": [round(value, 5) for value in hypervolumes(found.points, BUDGET_MS, times_s)],
    }


def print_table(rows: Sequence[Row], arms: Sequence[str]) -> None:
    """Print medians over the seeds, arm by arm."""
    if not rows:
        return
    curves = {arm: np.median([row["hypervolume"] for row in rows if row["arm"] == arm], axis=0) for arm in arms}
    goal = curves[BASELINE][-1] if BASELINE in curves else None
    print(f"\n{rows[0]['workers']} workers, {len({row['seed'] for row in rows})} seeds, {CORE_MINUTES:g} core minutes")
    print(
        f"{'arm':28} {'25 %':>7} {'50 %':>7} {'end':>7} {'ratio':>6} {'worst':>7} {'reached':>8} {'trainings':>9} {'epochs':>7}"
    )
    for arm, curve in curves.items():
        mine = [row for row in rows if row["arm"] == arm]
        reached = np.flatnonzero(curve >= goal) if goal is not None else []
        share = f"{100 * TIMES[reached[0]]:.0f} %" if len(reached) else "never"
        ratio = f"{curve[-1] / goal:.3f}" if goal else ""
        print(
            f"{arm:28} {curve[4]:7.3f} {curve[9]:7.3f} {curve[-1]:7.3f} {ratio:>6} {min(row['hypervolume'][-1] for row in mine):7.3f} "
            f"{share:>8} {statistics.median(row['trainings'] for row in mine):9g} {statistics.median(row['epochs'] for row in mine):7g}"
        )


if __name__ == "__main__":
    main()
