"""CamVid from ImageNet weights: mIoU of one network in a given training time.

    python -m benchmarks.camvid_train --data DIR --weights FILE --minutes M --out DIR --json OUT [--size 352x480] [--family mobilenetv2]

One MobileNetV2 ×1.0 with FPN, trained as a trial trains it, with all cores (one process each, which share every batch) or the GPU, and
as many epochs as fit into M minutes, including start and evaluation. It trains on crops of the full-size images and is evaluated on
whole ones. `val` is evaluated ten times during training for the curve only: the last weights count, not the
best ones. Writes OUT/network.pt, which `paretoseg evaluate OUT/network.pt --data DIR --split test --json` reads.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import distributed

from benchmarks._camvid import camvid_order, camvid_study, default_candidate, weights_source
from hw_latency_model.agent.cores import available_cores
from search_spaces._common.files import write_json
from search_spaces.spaces.encoder_decoder import parse_resolution
from trial_runner.config.study import StudyConfig
from trial_runner.evaluate import evaluate
from trial_runner.front.export_job import write_trained
from trial_runner.launch_checks import check_data
from trial_runner.training.checkpoint import save_checkpoint
from trial_runner.training.distributed import DistributedContext
from trial_runner.training.trainer import Trainer
from trial_runner.training.trial import make_trainer
from trial_runner.training.trial_spec import TrialSpec

RECIPE: dict[str, Any] = {
    "batch_size": 8,
    "warmup_epochs": 1.0,
    "encoder_lr_multiplier": 0.3,
    "ema_decay": 0.998,
    "precise_bn_batches": 16,
    "min_scale": 0.6,
    "max_scale": 1.8,
    "crop_ratio": 0.6,
    "label_stride": 2,
    "colour_jitter": 0.2,
    "loss": {"cross_entropy": 1.0, "lovasz": 0.5, "class_weights": "sqrt_inverse"},
    "mixed_precision": True,
}
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
READINGS = 10
_WRITING_S = 3.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CamVid folder")
    parser.add_argument(
        "--weights", required=True, help="ImageNet weights of the encoder: a file, a folder, hub or none"
    )
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and network.pt")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--size", default="352x480", help="height x width of the network's input, multiples of 32")
    parser.add_argument("--family", default="mobilenetv2")
    cores = 1 if torch.cuda.is_available() else available_cores()
    parser.add_argument(
        "--workers", type=int, default=cores, help="processes that share each batch (default: one a core)"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    shutil.rmtree(options.out / "training", ignore_errors=True)
    config = configure(options)
    check_data(config)
    order = make_order(config, options)
    with together(options.workers, order):
        trainer = make_trainer(order, DistributedContext.current())
        train_for(trainer, started + 60 * options.minutes)
        minutes = (time.monotonic() - started) / 60
    save_checkpoint(order.checkpoint_path, trainer.state())
    path = write_trained(order, options.out / "network.pt")
    found = evaluate(path, split="val", root=options.data)
    score = trainer.score
    assert score is not None
    row = {
        "network": f"{options.family} ×1.0 + fpn {options.size}",
        "weights": score.initial_weights,
        "epochs": trainer.epoch,
        "minutes": minutes,
        "images_per_s": trainer.epoch * trainer.images / trainer.train_s,
        "waiting_share": trainer.data_s / trainer.train_s,
        "val_miou": found.miou,
        "best_reading_miou": max(miou for _, miou in trainer.curve),
        "per_class": found.class_iou,
        "curve": [list(point) for point in trainer.curve],
        "recipe": RECIPE,
        "checkpoint": str(path),
    }
    write_json(options.json, [row])
    print(f"\n{'network':<34}{'weights':<34}{'epochs':>7}{'minutes':>9}{'images/s':>10}{'val mIoU':>10}")
    print(
        f"{row['network']:<34}{row['weights']:<34}{trainer.epoch:>7}{minutes:>9.1f}{row['images_per_s']:>10.1f}"
        f"{found.miou:>10.4f}"
    )
    print(f"network: {path}")


def configure(options: argparse.Namespace) -> StudyConfig:
    """The study that such a trial would belong to."""
    return camvid_study(
        options.data,
        options.out,
        {**RECIPE, "weights": weights_source(options.weights)},
        sizes_px=[parse_resolution(options.size)],
        threads=options.threads,
        seed=options.seed,
        space={"families": [options.family], "decoders": ["fpn"], "widths": [1.0], "prune_ratios": [0.0]},
    )


def make_order(config: StudyConfig, options: argparse.Namespace) -> TrialSpec:
    candidate = default_candidate(config, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    return camvid_order(config, candidate, options.out / "training", options.out)


@contextmanager
def together(workers: int, order: TrialSpec) -> Iterator[None]:
    """``workers`` processes that train the order together, this one the first of them."""
    if workers == 1:
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=follow, args=(rank, workers, address, order.to_dict()), daemon=True)
        for rank in range(1, workers)
    ]
    for other in others:
        other.start()
    distributed.init_process_group("gloo", init_method=address, rank=0, world_size=workers)
    yield
    for other in others:
        other.join()
    distributed.destroy_process_group()


def follow(rank: int, workers: int, address: str, order: dict[str, Any]) -> None:
    """Train in a process other than the first, until the first one stops."""
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=workers)
    trainer = make_trainer(TrialSpec.from_dict(order), DistributedContext.current())
    train_for(trainer, deadline=time.monotonic() + 1e9)
    distributed.destroy_process_group()


def train_for(trainer: Trainer, deadline: float) -> None:
    """Train until ``deadline`` (of the monotonic clock): before each epoch the number that still fits is recomputed, and the
    learning rate follows that. The time of two evaluations, and of writing the network, is kept back."""
    context = DistributedContext.current()
    began = read_at = time.monotonic()
    between = (deadline - began) / READINGS
    reading_s = 0.0
    while not trainer.done:
        now = time.monotonic()
        left = 1
        if trainer.epoch:
            left = int((deadline - now - 2 * reading_s - _WRITING_S) / (trainer.train_s / trainer.epoch))
        due = trainer.epoch == 0 or now - read_at > between
        left, due = context.broadcast([max(left, 0), due])
        if trainer.epoch:
            trainer.aim_for(trainer.epoch + left)
            if trainer.done:
                break
        before = trainer.train_s
        score = trainer.run_epoch(evaluate=bool(due))
        if score is not None:
            read_at = time.monotonic()
            reading_s = read_at - now - (trainer.train_s - before)
            if context.first:
                print(
                    f"epoch {trainer.epoch}, {(read_at - began) / 60:.1f} minutes: mIoU {score.val_miou:.4f}",
                    flush=True,
                )
    if not trainer.curve or trainer.curve[-1][0] != trainer.epoch:
        trainer.evaluate()


if __name__ == "__main__":
    main()
