"""Pruning: mIoU and measured CPU latency at several prune ratios, L1 against ADMM against the pruned shape from scratch.

    python -m benchmarks.pruning --data DIR --weights FILE --epochs N --json OUT [--size 96x128] [--ratios 0 0.3 0.5 0.7]

One network of one family, trained on CamVid with the same epochs, data and seed in each row:
  l1       from the given weights, pruned by L1 norms after `--cut-after` of the epochs, then fine-tuned,
  admm     the same with ADMM before pruning,
  scratch  the pruned shape from random weights, for all epochs,
  at_once  the pruned shape from the most important filters of the given weights, for all epochs (only with --methods).
At ratio 0 nothing is pruned: l1, admm and at_once are identical. With --allocations each ratio is repeated with a plan of how many
channels each layer keeps: as fast by the latency model (latency), or with as many MACs (sensitivity), as uniform pruning.

mIoU is on `val` at the labels' own resolution, latency is measured on one core, one network after the other, once all are trained.
Run again, it goes on with what is in the folder.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_latency_model.agent.cores import available_cores

os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))

from benchmarks._camvid import camvid_order, camvid_study, default_candidate, exported, measured_ms, weights_source
from hw_latency_model import LatencyModel
from search_spaces import open_space
from search_spaces._common.files import write_json
from search_spaces.spaces.encoder_decoder import parse_resolution
from trial_runner.config.study import TrainingSection
from trial_runner.constraints.channel_plans import ChannelPlans
from trial_runner.launch_checks import check_data
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import Progress, TrialSpec

METHODS = ("l1", "admm", "scratch")
ALLOCATIONS = ("uniform", "latency", "sensitivity")
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CamVid folder")
    parser.add_argument("--weights", default="none", help="of the encoder: a file, a folder, hub or none")
    parser.add_argument("--epochs", type=int, required=True, help="of each training, pruned or not")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"), help="folder for checkpoints and ONNX files")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.0, 0.3, 0.5, 0.7])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=[*METHODS, "at_once"])
    parser.add_argument("--allocations", nargs="+", default=["uniform"], choices=ALLOCATIONS)
    parser.add_argument(
        "--latency-model",
        type=Path,
        default=Path("runs/local-cpu/latency_model.json"),
        help="of this machine, for the other allocations: what `paretoseg calibrate local-cpu` left (default: %(default)s)",
    )
    parser.add_argument("--cut-after", type=float, default=0.4, help="share of the epochs (default 0.4)")
    parser.add_argument("--size", default="96x128", help="height x width of the network's input, multiples of 32")
    parser.add_argument("--family", default="mobilenetv2")
    parser.add_argument("--decoder", default="fpn")
    parser.add_argument("--width", type=float, default=1.0)
    cores = available_cores()
    parser.add_argument("--threads", type=int, default=cores, help="fewer where other work takes cores (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    rows = []
    classes = len(check_data(order(options, 0.0, "scratch").config).class_names)
    for ratio in options.ratios:
        for allocation in options.allocations if ratio else options.allocations[:1]:
            channels = plan(options, ratio, allocation, classes)
            for method in options.methods:
                if same_as(ratio, method, options) != method:
                    continue
                spec = order(options, ratio, method, allocation, channels)
                rows.append({"allocation": allocation, **train(spec, ratio, method, classes)})
                write_json(options.json, rows)
    dense = next((row for row in rows if row["ratio"] == 0.0), rows[0])
    for row, ms in zip(rows, measured_ms([Path(row["onnx"]) for row in rows]), strict=True):
        row["measured_ms"] = ms
    for row in rows:
        row["macs_ratio"] = row["macs"] / dense["macs"]
        row["speed_up"] = dense["measured_ms"] / row["measured_ms"]
    write_json(options.json, rows)
    print_table(rows)


def same_as(ratio: float, method: str, options: argparse.Namespace) -> str:
    """Return the method with the same result: at ratio 0 nothing is pruned, and without weights all start at random."""
    if ratio == 0.0 and (method != "scratch" or options.weights == "none"):
        return str(options.methods[0])
    return method


def plan(options: argparse.Namespace, ratio: float, allocation: str, classes: int) -> Mapping[str, int] | None:
    """Channels that each layer keeps in all rows of the allocation; None for uniform pruning."""
    if allocation == "uniform" or not ratio:
        return None
    spec = order(options, ratio, METHODS[0])
    space = open_space(spec.config.space)
    training = TrainingSection.model_validate(
        {"weights": weights_source(options.weights), "pruning": {"allocation": allocation}}
    )
    return ChannelPlans(space, classes, LatencyModel.load(options.latency_model), training)(spec.candidate)


def order(
    options: argparse.Namespace,
    ratio: float,
    method: str,
    allocation: str = "uniform",
    channels: Mapping[str, int] | None = None,
) -> TrialSpec:
    """The training of one row."""
    scratch = method == "scratch" or options.weights == "none"
    config = camvid_study(
        options.data,
        options.out,
        {
            "epochs": options.epochs,
            "warmup_epochs": 1.0,
            "ema_decay": 0.99,
            "weights": "none" if scratch else weights_source(options.weights),
            "encoder_lr_multiplier": 1.0 if scratch else 0.3,
            "prune_after": options.cut_after if method in ("l1", "admm") else 0.0,
            "pruning": {"method": "admm" if method == "admm" else "l1"},
            "mixed_precision": True,
        },
        sizes_px=[parse_resolution(options.size)],
        threads=options.threads,
        seed=options.seed,
        space={
            "families": [options.family],
            "decoders": [options.decoder],
            "widths": [options.width],
            "prune_ratios": [ratio],
        },
    )
    candidate = default_candidate(config, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    name = f"{method}-{ratio:g}" if channels is None else f"{method}-{ratio:g}-{allocation}"
    return camvid_order(config, candidate, options.out / name, options.out, channels=channels)


def train(spec: TrialSpec, ratio: float, method: str, classes: int) -> dict[str, Any]:
    readings: list[Progress] = []
    started = time.monotonic()

    def report(progress: Progress) -> bool:
        readings.append(progress)
        print(f"{method} {ratio:g}: epoch {progress.epoch} of {spec.epochs}: mIoU {progress.val_miou:.4f}", flush=True)
        return False

    run_trial(spec, report)
    score = readings[-1].score
    return {
        "ratio": ratio,
        "method": method,
        "weights": score.initial_weights,
        "epochs": score.epochs_total,
        "val_miou": score.val_miou,
        "macs": score.macs,
        "params": score.params,
        "train_s": score.train_s,
        "wall_s": time.monotonic() - started,
        "curve": [list(point) for point in readings[-1].curve],
        "onnx": str(exported(spec, classes, spec.folder / "model.onnx")),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    print(
        f"\n{'ratio':>6}  {'allocation':<12}{'method':<9}{'mIoU':>8}{'MMACs':>8}{'ratio':>7}{'kparams':>9}{'ms':>8}{'speed-up':>10}"
    )
    for row in rows:
        cost = f"{row['macs'] / 1e6:>8.1f}{row['macs_ratio']:>7.2f}{row['params'] / 1e3:>9.0f}"
        print(
            f"{row['ratio']:>6g}  {row['allocation']:<12}{row['method']:<9}{row['val_miou']:>8.4f}"
            f"{cost}{row['measured_ms']:>8.3f}{row['speed_up']:>10.2f}"
        )


if __name__ == "__main__":
    main()
