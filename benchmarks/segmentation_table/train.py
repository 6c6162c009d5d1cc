"""Trainings of the table: candidates spread over the default space, each trained once on CamVid, some on two seeds.

    python -m benchmarks.segmentation_table.train --data DIR --weights DIR [--table FILE] [--candidates 240] [--jobs 2]

Each training is one row of a JSON Lines file, written as it ends; a run with the same file continues where an earlier one was
cut off. Costs are CPU seconds of one thread, which other work on the machine hardly changes. `latency` adds the latencies.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks._camvid import camvid_order, camvid_study, weights_source
from benchmarks.segmentation_table.table import TABLE, Row, read_table
from search_spaces import Candidate, SearchSpace, open_space
from search_spaces.networks.backbones import FAMILIES
from search_spaces.networks.decoder_specs import DECODERS
from trial_runner.config.study import StudyConfig
from trial_runner.launch_checks import check_data
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import Continuation, Progress, TrialFailed, TrialSpec

EPOCHS = 6
SIZES_PX = [(64, 64), (64, 96), (96, 128)]
EXCLUDED = ("resnet101",)
SECOND_SEED_EVERY = 6
"""Every so many candidates one is trained on a second seed, and that training is continued once more, as a final training."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CamVid folder")
    parser.add_argument(
        "--weights", default="none", help="folder of ImageNet weights; families without start at random"
    )
    parser.add_argument("--table", type=Path, default=TABLE, help="JSON Lines file of the trainings")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/segmentation_table"), help="folder for images and checkpoints"
    )
    parser.add_argument("--candidates", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1, help="of the draw, and of each candidate's first training")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="trainings side by side")
    options = parser.parse_args(arguments)
    config = study(options.data, options.out, weights_source(options.weights), options.seed)
    check_data(config)
    train_all(config, orders(config, options.candidates, options.seed, options.out), options.table, options.jobs)


def study(data: Path, out: Path, weights: str, seed: int) -> StudyConfig:
    """The study that the trainings belong to: every family and decoder, small enough for two cores."""
    families = [name for name in FAMILIES if name not in EXCLUDED]
    training = {"epochs": EPOCHS, "weights": weights, "prune_after": 0.25, "colour_jitter": 0.1}
    space = {"families": families, "decoders": list(DECODERS)}
    return camvid_study(data, out, training, sizes_px=SIZES_PX, threads=1, seed=seed, space=space)


def draw(space: SearchSpace, count: int, seed: int) -> list[Candidate]:
    """Draw ``count`` candidates, the default one first; each value of a categorical dimension about equally often."""
    rng = np.random.default_rng(seed)
    balanced = {}
    for name in ("family", "decoder", "width", "resolution", "prune_ratio"):
        (axis,) = (item for item in space.dimensions if item.name == name)
        choices = list(axis.choices)  # type: ignore[attr-defined]
        rounds = -(-count // len(choices))
        balanced[name] = [choices[at] for _ in range(rounds) for at in rng.permutation(len(choices))]
    found = [space.default()]
    for number in range(count - 1):
        drawn = space.sample(rng).params
        found.append(space.candidate({**drawn, **{name: values[number] for name, values in balanced.items()}}))
    return found


def orders(config: StudyConfig, count: int, seed: int, out: Path) -> Iterator[TrialSpec]:
    """Yield an order for each training."""
    for number, candidate in enumerate(draw(open_space(config.space), count, seed)):
        for repeat in range(2 if number % SECOND_SEED_EVERY == 0 else 1):
            folder = out / f"{number:03d}-seed-{seed + repeat}"
            yield camvid_order(config, candidate, folder, out, number=number, seed=seed + repeat)


def train_all(config: StudyConfig, wanted: Iterator[TrialSpec], table: Path, jobs: int) -> None:
    """Train what the table does not hold yet, ``jobs`` at a time."""
    there = {(row["candidate"], row["seed"]) for row in read_table(table)}
    missing = [order for order in wanted if (order.number, order.seed) not in there]
    print(f"{len(there)} trainings in {table}, {len(missing)} to come", flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool, table.open("a", encoding="utf-8") as file:
        running = [pool.submit(train_one, order.to_dict()) for order in missing]
        for done in as_completed(running):
            row = done.result()
            file.write(json.dumps(row) + "\n")
            file.flush()
            said = row["failure"] or f"mIoU {row['miou'][-1]:.3f} in {row['seconds'][-1]:.0f} s"
            print(f"{row['candidate']} seed {row['seed']} {describe(row['params'])}: {said}", flush=True)


def train_one(order: Mapping[str, Any]) -> Row:
    """Train one candidate and return its row: mIoU and CPU seconds so far at the end of each epoch, and its cost."""
    spec = TrialSpec.from_dict(order)
    shutil.rmtree(spec.folder, ignore_errors=True)  # the costs of a training that was cut off are not known
    reports, seconds, failure = timed(spec)
    score = reports[-1].score if reports else None
    row = {
        "candidate": spec.number,
        "seed": spec.seed,
        "params": dict(spec.candidate.params),
        "failure": failure,
        "miou": [round(progress.val_miou, 5) for progress in reports],
        "seconds": seconds,
        "macs": score.macs if score else None,
        "parameters": score.params if score else None,
        "initial_weights": score.initial_weights if score else None,
    }
    if spec.seed != spec.config.study.seed and failure is None:
        folder = spec.folder.with_name(f"{spec.folder.name}-continued")
        shutil.rmtree(folder, ignore_errors=True)
        continues = Continuation(spec.number, spec.folder, EPOCHS)
        reports, seconds, _ = timed(replace(spec, folder=folder, continues=continues))
        row["continued"] = {"miou": [round(progress.val_miou, 5) for progress in reports], "seconds": seconds}
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(spec.folder, ignore_errors=True)
    return row


def timed(spec: TrialSpec) -> tuple[list[Progress], list[float], str | None]:
    """Carry out an order; return its readings, the CPU seconds until each, and the reason if it failed."""
    start = time.process_time()
    reports: list[Progress] = []
    seconds: list[float] = []

    def report(progress: Progress) -> bool:
        reports.append(progress)
        seconds.append(round(time.process_time() - start, 3))
        return False

    try:
        run_trial(spec, report)
    except TrialFailed as error:
        return reports, seconds, str(error)
    return reports, seconds, None


def describe(params: Mapping[str, Any]) -> str:
    """Describe a candidate in one line."""
    return (
        f"{params['family']} ×{params['width']} + {params['decoder']} {params['resolution']} prune {params['prune_ratio']} "
        f"lr {params['learning_rate']:.2g}"
    )


if __name__ == "__main__":
    main()
