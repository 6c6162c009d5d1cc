"""Searches replayed on the table of real trainings: hypervolume over simulated wall-clock time.

    python -m benchmarks.segmentation_table.replay --json OUT [--arms 'A;B'] [--seeds 20] [--first-seed 1000] [--workers 2,8]

Each arm is a configuration of the product's driver; trainings are answered by `curves.TableCurves`, latencies by the bundled model of
the Jetson Nano in FP16 (on the first call for all architectures, kept in ``OUT.costs.json``: ten minutes of CPU time). Settings were
tuned with seeds below 1000. A row of the JSON file is one replay: ``arm, workers, seed, trainings, finished, epochs, minutes,
hypervolume`` (at each of ``TIMES`` shares of the budget, of finished trainings). The table it prints gives medians over the seeds,
their ratio to random search with final training, and the share of the budget after which an arm has what that arm has at its end.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna

from benchmarks.segmentation_table.costs import Costs, StoredCosts, costs_of_all
from benchmarks.segmentation_table.curves import TableCurves
from benchmarks.segmentation_table.rules import Unavailable, rules
from benchmarks.segmentation_table.simulator import Landscape, hypervolumes, replay
from benchmarks.segmentation_table.table import TABLE, Row, read_table
from benchmarks.segmentation_table.train import EPOCHS, study
from hw_latency_model.bundled.load import load_bundled
from search_spaces import open_space
from search_spaces._common.files import write_json
from trial_runner.config.study import StudyConfig

CLASSES = 11
BUDGET_MS = 2.5
"""Kept by six of ten networks of the space."""
CORE_MINUTES = 60.0
"""Simulated minutes of all workers together."""
TIMES = np.linspace(0.05, 1.0, 20)
BASELINE = "random+final"

FINAL = {"final_training": {"members": 8, "epochs": 10 * EPOCHS, "time_share": 0.5}}
AUTO_FINAL = {"final_training": {**FINAL["final_training"], "time_share": "auto"}}
OLD_RUNGS = {"early_stopping": {"rungs_epochs": [EPOCHS // 2], "reduction_factor": 2.0, "min_trials": 4}}
RUNGS = {"early_stopping": {"rungs_epochs": [1, EPOCHS // 2], "reduction_factor": 3.0, "min_trials": 4}}
PROMOTING = {"early_stopping": {**RUNGS["early_stopping"], "promote": True}}
KNOWN = {"sampler": "known_cost"}
TRIALS = {"trials": 60, "time_budget_minutes": None}


@dataclass(frozen=True)
class Arm:
    """Configuration of a search.

    Attributes:
        search: section ``search`` of the study; without a time budget where it says so.
        stage_cache: epochs that candidates share are trained once.
        rule: early-stopping rule of `rules.rules` instead of the product's.
    """

    search: Mapping[str, Any]
    stage_cache: bool = False
    rule: str | None = None


ARMS = {
    "random": Arm({"sampler": "random"}),
    "random+final": Arm({"sampler": "random", **FINAL}),
    "tpe+rungs+final": Arm({"sampler": "tpe", "start": "stratified", **OLD_RUNGS, **FINAL}),
    "nsga2": Arm({"sampler": "nsga2"}),
    "nsga2+final": Arm({"sampler": "nsga2", **FINAL}),
    "known_cost": Arm(KNOWN),
    "known_cost+final": Arm({**KNOWN, **FINAL}),
    "known_cost+stopping+final": Arm({**KNOWN, **RUNGS, **FINAL}),
    "known_cost+promotion+final": Arm({**KNOWN, **PROMOTING, **FINAL}),
    "known_cost+stopping+auto final": Arm({**KNOWN, **RUNGS, **AUTO_FINAL}),
    "known_cost+stopping+auto final+cache": Arm({**KNOWN, **RUNGS, **AUTO_FINAL}, stage_cache=True),
    "known_cost+promotion+auto final": Arm({**KNOWN, **PROMOTING, **AUTO_FINAL}),
    "known_cost+asha by miou+final": Arm({**KNOWN, **FINAL}, rule="asha by miou"),
    "known_cost+mo-asha+final": Arm({**KNOWN, **FINAL}, rule="mo-asha"),
    "known_cost+multi_metric_pruner+final": Arm({**KNOWN, **FINAL}, rule="multi_metric_pruner"),
    "known_cost, 60 trials": Arm({**KNOWN, **TRIALS}),
    "known_cost+stopping, 60 trials": Arm({**KNOWN, **RUNGS, **TRIALS}),
    "known_cost+promotion, 60 trials": Arm({**KNOWN, **PROMOTING, **TRIALS}),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the rows; replays it holds are not repeated")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--arms", default=";".join(ARMS), help="separated by semicolons")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--workers", default="2,8")
    parser.add_argument(
        "--registry", help="folder `package` of a copy of OptunaHub's registry, for its multi_metric_pruner"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    if not read_table(options.table):
        parser.error(f"there are no trainings in {options.table}; run benchmarks.segmentation_table.train")
    arms, workers = _names(options.arms), [int(number) for number in options.workers.split(",")]
    for arm in [arm for arm in arms if ARMS[arm].rule]:
        try:
            rules(EPOCHS, options.registry)[str(ARMS[arm].rule)]()
        except Unavailable as why:
            print(f"{arm} is skipped: {why}", flush=True)
            arms.remove(arm)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows: list[Row] = json.loads(options.json.read_text()) if options.json.is_file() else []
    there = {(row["arm"], row["workers"], row["seed"]) for row in rows}
    wanted = [(arm, number, seed) for number in workers for arm in arms for seed in seeds]
    missing = [item for item in wanted if item not in there]
    model, space = load_bundled("jetson-nano", "fp16"), open_space(study_config().space)
    costs = costs_of_all(space, CLASSES, model, options.json.with_suffix(".costs.json"), options.jobs)
    with ProcessPoolExecutor(
        options.jobs, initializer=_prepare, initargs=(options.table, costs, options.registry)
    ) as pool:
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
_registry: str | None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(";") if name.strip()]


def _prepare(table: Path, costs: Mapping[str, Costs], registry: str | None) -> None:
    global _landscape, _config, _registry
    _registry = registry
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _config = study_config()
    space = open_space(_config.space)
    gate = StoredCosts(space, CLASSES, load_bundled("jetson-nano", "fp16"), BUDGET_MS, costs)
    _landscape = Landscape(space, gate, _curves(table, _config))


def _one(item: tuple[str, int, int]) -> Row:
    name, workers, seed = item
    arm, minutes = ARMS[name], CORE_MINUTES / workers
    search = {"trials": 100_000, "time_budget_minutes": minutes, **arm.search}
    values = _config.model_dump(mode="json")
    values["compute"]["stage_cache_gb"] = 2.0 if arm.stage_cache else 0.0
    values["device"]["latency_budget_ms"] = BUDGET_MS
    config = StudyConfig.model_validate({**values, "search": search})
    rule = rules(EPOCHS, _registry)[arm.rule]() if arm.rule else None
    found = replay(config, _landscape, workers, seed, rule)
    if search["time_budget_minutes"] is None:
        minutes = found.now_s / 60
    times_s = 60 * minutes * TIMES
    return {
        "arm": name,
        "workers": workers,
        "seed": seed,
        "trainings": found.trainings,
        "finished": len(found.points),
        "epochs": found.epochs,
        "minutes": round(minutes, 2),
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
