"""CamVid from ImageNet weights: how good one network gets within so many minutes of training.

    python -m benchmarks.camvid_train --data DIR --weights FILE --minutes M --out DIR --json OUT [--size 192x256] [--family mobilenetv2]

One MobileNetV2 ×1.0 with FPN, trained as a trial trains it, with all cores (or the GPU) and as many epochs as fit into M minutes,
the timing of the first epochs included. The weights that scored best on `val` are not picked: the last ones count. Leaves
OUT/network.pt, which `paretoseg evaluate OUT/network.pt --data DIR --split test --json` reads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))

from search_spaces import get_space
from search_spaces.candidate import Candidate
from search_spaces.encoder_decoder import parse_resolution
from search_spaces.files import write_json
from trial_runner.evaluation import evaluate
from trial_runner.export_job import write_trained
from trial_runner.launch import check_data
from trial_runner.study_config import StudyConfig
from trial_runner.trial import run_trial
from trial_runner.trial_spec import Progress, TrialSpec

RECIPE: dict[str, Any] = {
    "batch_size": 8,
    "warmup_epochs": 1.0,
    "encoder_rate": 0.3,
    "average_decay": 0.99,
    "min_scale": 0.75,
    "max_scale": 1.75,
    "colour_jitter": 0.2,
    "loss": {"cross_entropy": 1.0, "lovasz": 0.5, "class_weights": "none"},
    "mixed_precision": True,
}
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CamVid folder")
    parser.add_argument(
        "--weights", required=True, help="ImageNet weights of the encoder: a file, a folder, hub or none"
    )
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and network.pt")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--size", default="192x256", help="height x width of the network's input, multiples of 32")
    parser.add_argument("--family", default="mobilenetv2")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="fewer where other work takes cores (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    config = configure(options)
    check_data(config)
    order = trial(config, options, epochs=3, folder=options.out / "timed")
    epoch_s = time_epoch(order)
    left_s = 60 * options.minutes - (time.monotonic() - started)
    epochs = max(int(0.98 * left_s / epoch_s), 1)
    order = trial(config, options, epochs=epochs, folder=options.out / "training")
    readings: list[Progress] = []

    def report(progress: Progress) -> bool:
        readings.append(progress)
        print(f"epoch {progress.epoch} of {epochs}: mIoU {progress.val_miou:.4f}", flush=True)
        return False

    run_trial(order, report)
    minutes = (time.monotonic() - started) / 60
    path = write_trained(order, options.out / "network.pt")
    found = evaluate(path, split="val", root=options.data)
    score = readings[-1].score
    row = {
        "network": f"{options.family} ×1.0 + fpn {options.size}",
        "weights": score.initial_weights,
        "epochs": epochs,
        "minutes": minutes,
        "images_per_s": epochs * found_images(config) / score.train_s,
        "val_miou": found.miou,
        "best_epoch_miou": max(progress.val_miou for progress in readings),
        "per_class": found.class_iou,
        "curve": [list(point) for point in readings[-1].curve],
        "checkpoint": str(path),
    }
    write_json(options.json, [row])
    print(f"\n{'network':<34}{'weights':<34}{'epochs':>7}{'minutes':>9}{'images/s':>10}{'val mIoU':>10}")
    print(
        f"{row['network']:<34}{row['weights']:<34}{epochs:>7}{minutes:>9.1f}{row['images_per_s']:>10.1f}{found.miou:>10.4f}"
    )
    print(f"network: {path}")


def configure(options: argparse.Namespace) -> StudyConfig:
    """The study that such a trial would belong to."""
    weights = options.weights if options.weights in ("none", "hub") else str(Path(options.weights).resolve())
    return StudyConfig.model_validate(
        {
            "study": {"name": "camvid-train", "storage": "sqlite://", "output_dir": options.out, "seed": options.seed},
            "data": {"kind": "camvid", "root": options.data.resolve()},
            "space": {"resolutions_px": [parse_resolution(options.size)]},
            "device": {"latency_model": options.out / "unused.json", "latency_budget_ms": 1000},
            "training": {**RECIPE, "weights": weights},
            "compute": {"threads_per_trial": options.threads},
        }
    )


def trial(config: StudyConfig, options: argparse.Namespace, *, epochs: int, folder: Path) -> TrialSpec:
    shutil.rmtree(folder, ignore_errors=True)  # an earlier run's checkpoint would be gone on with
    space = get_space(config.space.name, config.space.options())
    default = space.default()
    params = {
        **default.params,
        "family": options.family,
        "decoder": "fpn",
        "width": 1.0,
        "resolution": options.size,
        "prune_ratio": 0.0,
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
    }
    candidate = Candidate(default.space, default.space_version, params)
    changed = config.model_copy(update={"training": config.training.model_copy(update={"epochs": epochs})})
    return TrialSpec(0, candidate, changed, folder, options.out / "cache")


def time_epoch(order: TrialSpec) -> float:
    """Seconds of an epoch with its evaluation and checkpoint; the first, which also decodes the images, is left out."""
    times: list[float] = []
    run_trial(order, lambda progress: bool(times.append(time.monotonic())) or len(times) == 2)
    return times[1] - times[0]


def found_images(config: StudyConfig) -> int:
    from trial_runner.trial import open_split

    return len(open_split(config.data, "train", config.study.seed))


if __name__ == "__main__":
    main()
