"""Reliability of rungs: rank correlation of the mIoU at each rung with that at the full budget, on CamVid.

    python -m benchmarks.rung_ranking --data DIR --weights FILE --json OUT [--candidates 12] [--epochs 12] [--rungs 1,2,3,4,6,8]

Two sets of random candidates of the default space (family, decoder, width, prune ratio, learning rate, weight decay; one input
size, so that each costs about the same): one trained from scratch, one from the given ImageNet weights, for which only families
that the weights fit are drawn. Each is trained to the end; for every rung the table gives Spearman's rho between the mIoU there and
at the end, and how many of the best third at the end are among the better half at the rung, which a reduction factor of 2 would
keep. With --seeds 2 each candidate is trained again on another seed: the correlation between two full trainings of the same
candidates is the most that any rung could reach. An interrupted run with the same --out is resumed.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import spearmanr

from benchmarks._camvid import camvid_order, camvid_study, weights_source
from hw_latency_model.agent.cores import available_cores
from search_spaces import Candidate, SearchSpace, open_space
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json
from search_spaces.spaces.encoder_decoder import parse_resolution
from trial_runner.config.study import StudyConfig
from trial_runner.launch_checks import check_data
from trial_runner.training.trial import load_splits, run_trial
from trial_runner.training.trial_spec import Progress, TrialFailed, TrialSpec

Curve = dict[int, float]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CamVid folder")
    parser.add_argument("--weights", default="none", help="ImageNet weights (file or folder); none: from scratch only")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/rung_ranking"), help="folder for checkpoints and images")
    parser.add_argument("--candidates", type=int, default=12, help="of each set")
    parser.add_argument("--epochs", type=int, default=12, help="the full budget")
    parser.add_argument("--rungs", default="1,2,3,4,6,8", help="epochs to look at, below --epochs")
    parser.add_argument("--size", default="128x160", help="height x width of the networks' input, multiples of 32")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each candidate")
    parser.add_argument("--seed", type=int, default=1, help="of the draw, and of the first training")
    parser.add_argument("--jobs", type=int, default=available_cores(), help="trainings side by side")
    options = parser.parse_args(arguments)
    rungs = [int(text) for text in options.rungs.split(",") if int(text) < options.epochs]
    rows: list[dict[str, Any]] = []
    for name, weights in {"scratch": "none", "pretrained": weights_source(options.weights)}.items():
        if name == "pretrained" and weights == "none":
            continue
        config = _study(options, weights)
        check_data(config)
        drawn = draw(config, options.candidates, options.seed, weights)
        curves = train_all(name, config, drawn, options)
        rows.append(summary(name, drawn, curves, [*rungs, options.epochs]))
        write_json(options.json, rows)
        print_table(rows[-1:])
    print_table(rows)


def _study(options: argparse.Namespace, weights: str, families: list[str] | None = None) -> StudyConfig:
    training = {
        "epochs": options.epochs,
        "weights": weights,
        "encoder_lr_multiplier": 0.3 if weights != "none" else 1.0,
    }
    return camvid_study(
        options.data,
        options.out,
        training,
        sizes_px=[parse_resolution(options.size)],
        threads=1,
        seed=options.seed,
        space={"families": families} if families else None,
    )


def draw(config: StudyConfig, count: int, seed: int, weights: str) -> list[Candidate]:
    """``count`` different networks, drawn at random; where weights are given, such that start from them."""
    space = open_space(config.space)
    rng = np.random.default_rng(seed)
    usable: dict[str, bool] = {}
    found: dict[str, Candidate] = {}
    for _ in range(400 * count):
        candidate = space.sample(rng)
        family = str(candidate.params["family"])
        if weights != "none":
            if family not in usable:
                usable[family] = starts_pretrained(space, candidate, weights)
            if not usable[family]:
                continue
        found.setdefault(space.architecture_id(candidate), candidate)
        if len(found) == count:
            return list(found.values())
    raise UserError(
        f"only {len(found)} of {count} different networks could be drawn. Give fewer --candidates, or other --weights."
    )


def starts_pretrained(space: SearchSpace, candidate: Candidate, weights: str) -> bool:
    net = space.build(candidate, 2)
    return not space.load_pretrained(net, candidate, weights).startswith("random")


def train_all(
    name: str, config: StudyConfig, drawn: Sequence[Candidate], options: argparse.Namespace
) -> dict[tuple[int, int], Curve]:
    """The curve of every (candidate, seed), ``options.jobs`` at a time; a training that fails is left out."""
    orders = {
        (number, seed): camvid_order(
            config, candidate, options.out / name / f"{number:03d}-seed-{seed}", options.out, number=number, seed=seed
        )
        for number, candidate in enumerate(drawn)
        for seed in range(options.seed, options.seed + options.seeds)
    }
    space = open_space(config.space)
    load_splits(next(iter(orders.values())), space.input_hw(drawn[0]))  # decoded once, before all ask for it
    curves: dict[tuple[int, int], Curve] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        running = {pool.submit(train_one, order.to_dict()): key for key, order in orders.items()}
        for done in as_completed(running):
            key, (curve, failure) = running[done], done.result()
            label = describe(drawn[key[0]])
            if failure:
                print(f"{name} {key[0]} seed {key[1]} {label}: {failure}", flush=True)
                continue
            curves[key] = curve
            print(f"{name} {key[0]} seed {key[1]} {label}: mIoU {curve[options.epochs]:.3f}", flush=True)
    return curves


def train_one(order: Mapping[str, Any]) -> tuple[Curve, str | None]:
    """The curve of one training, or why it failed."""
    last: list[Progress] = []
    try:
        run_trial(TrialSpec.from_dict(order), lambda progress: bool(last.append(progress)))
    except TrialFailed as error:
        return {}, str(error)
    return dict(last[-1].curve), None


def summary(
    name: str, drawn: Sequence[Candidate], curves: Mapping[tuple[int, int], Curve], epochs: Sequence[int]
) -> dict[str, Any]:
    """Rank correlations of one set: each training with its own end, and the ends of two seeds with each other."""
    *rungs, full = epochs
    seeds = sorted({seed for _, seed in curves})
    by_seed = {seed: {number: curve for (number, s), curve in curves.items() if s == seed} for seed in seeds}
    rung_rows = []
    for rung in rungs:
        rhos, kept = [], []
        for group in by_seed.values():
            early = np.array([curve[rung] for curve in group.values()])
            late = np.array([curve[full] for curve in group.values()])
            rhos.append(rank_correlation(early, late))
            kept.append(best_third_kept(early, late))
        rung_rows.append({"epoch": rung, "spearman": float(np.mean(rhos)), "best_third_kept": float(np.mean(kept))})
    between = None
    if len(seeds) > 1:
        both = sorted(set(by_seed[seeds[0]]) & set(by_seed[seeds[1]]))
        pair = [np.array([by_seed[seed][number][full] for number in both]) for seed in seeds[:2]]
        between = rank_correlation(pair[0], pair[1])
    return {
        "set": name,
        "candidates": len({number for number, _ in curves}),
        "seeds": len(seeds),
        "epochs": full,
        "rungs": rung_rows,
        "spearman_between_seeds": between,
        "curves": [
            {
                "network": describe(drawn[number]),
                "params": dict(drawn[number].params),
                "seed": seed,
                "curve": sorted(curve.items()),
            }
            for (number, seed), curve in sorted(curves.items())
        ],
    }


def rank_correlation(left: Sequence[float] | np.ndarray, right: Sequence[float] | np.ndarray) -> float:
    """Spearman's rho; NaN with fewer than three values, or where all are equal."""
    if len(left) < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return math.nan
    return float(spearmanr(left, right).statistic)


def best_third_kept(early: np.ndarray, late: np.ndarray) -> float:
    """Share of the best third by ``late`` that is in the better half by ``early``."""
    third, half = max(len(late) // 3, 1), max(len(late) // 2, 1)
    return len(set(np.argsort(-late)[:third]) & set(np.argsort(-early)[:half])) / third


def describe(candidate: Candidate) -> str:
    params, rate = candidate.params, float(candidate.params["learning_rate"])
    return f"{params['family']} ×{params['width']} + {params['decoder']} prune {params['prune_ratio']} lr {rate:.2g}"


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{'set':<12}{'networks':>9}{'epoch':>7}{'of':>5}{'Spearman':>10}{'best third kept':>17}")
    for row in rows:
        for rung in row["rungs"]:
            print(
                f"{row['set']:<12}{row['candidates']:>9}{rung['epoch']:>7}{row['epochs']:>5}{rung['spearman']:>10.2f}"
                f"{rung['best_third_kept']:>17.0%}"
            )
        if row["spearman_between_seeds"] is not None:
            print(
                f"{row['set']:<12}{row['candidates']:>9}   two seeds, both at the end: {row['spearman_between_seeds']:.2f}"
            )


if __name__ == "__main__":
    main()
