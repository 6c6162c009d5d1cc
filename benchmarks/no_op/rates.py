"""Trials per second of a whole stack that runs one no-op trial after the other."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from benchmarks.no_op.study import NoOpTrial, open_driver, study_config
from objectives.optuna_private import StudyStorage, trial_id
from search_spaces import open_space

WINDOW = 100
OPTUNA = "optuna"


@dataclass(frozen=True)
class Step:
    """Wall seconds of one trial: of its proposal and its end together, and of everything."""

    ask_tell_s: float
    trial_s: float
    cpu_s: float


def paretoseg_steps(url: str, folder: Path, sampler: str, trials: int, epochs: int) -> Iterator[Step]:
    """Run a study with the product's driver; one step for each trial that was trained."""
    driver, gate = open_driver(study_config(url, folder, sampler, trials, epochs))
    while True:
        began, cpu = time.perf_counter(), time.process_time()
        spec = driver.ask()
        asked = time.perf_counter()
        if spec is None:
            return
        trial = NoOpTrial.of(spec, gate, epochs)
        while not driver.progress(trial.number, trial.step()) and trial.epoch < epochs:
            pass
        trained = time.perf_counter()
        driver.finish(trial.number)
        ended = time.perf_counter()
        yield Step(asked - began + ended - trained, ended - began, time.process_time() - cpu)


def optuna_steps(url: str, folder: Path, trials: int, epochs: int) -> Iterator[Step]:
    """Optuna alone, as the storage's own limit: the same space and curves, random, without attributes, constraints or rules."""
    space = open_space(study_config(url, folder, "random", trials, epochs).space)
    sampling = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(storage=url, study_name="optuna", directions=["maximize", "minimize"], sampler=sampling)
    storage = StudyStorage(study)
    for number in range(trials):
        began, cpu = time.perf_counter(), time.process_time()
        trial = study.ask()
        space.suggest(trial)
        asked = time.perf_counter()
        for epoch in range(1, epochs + 1):
            storage.set_intermediate_value(trial_id(trial), epoch, 0.1 * epoch)
        trained = time.perf_counter()
        study.tell(number, [0.5, 1.0])
        ended = time.perf_counter()
        yield Step(asked - began + ended - trained, ended - began, time.process_time() - cpu)


SYSTEMS: dict[str, Callable[[str, Path, int, int], Iterator[Step]]] = {
    OPTUNA: optuna_steps,
    "random": lambda url, folder, trials, epochs: paretoseg_steps(url, folder, "random", trials, epochs),
    "known_cost": lambda url, folder, trials, epochs: paretoseg_steps(url, folder, "known_cost", trials, epochs),
}


def rates(system: str, url: str, folder: Path, counts: Sequence[int], epochs: int) -> list[dict[str, Any]]:
    """Run a system to the largest count; one row for each count, over the last `WINDOW` trials before it."""
    rows, window = [], []
    for number, step in enumerate(SYSTEMS[system](url, folder, max(counts), epochs), start=1):
        window = [*window, step][-WINDOW:]
        if number in counts:
            mean_s = statistics.fmean(item.trial_s for item in window)
            row = {"system": system, "trials": number, "trials_per_s": 1.0 / mean_s}
            row["cpu_ms"] = 1000 * statistics.fmean(item.cpu_s for item in window)
            row["ask_tell_ms"] = 1000 * statistics.median(item.ask_tell_s for item in window)
            row["memory_mib"] = resident_mib()
            rows.append(row)
    return rows


def resident_mib() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
