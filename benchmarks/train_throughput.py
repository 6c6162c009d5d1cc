"""The training loop against a plain PyTorch loop: images per second, share of time waiting for data, and the bottleneck.

    python -m benchmarks.train_throughput --data DIR --json OUT [--networks mobilenetv2:1.0,mobilenetv3_small:0.5] [--size 192x256]

For each network three things are timed in turns, so that a machine whose speed drifts slows all of them alike:
  plain     the usual loop: a Dataset that opens, decodes and resizes each image, torchvision's transforms (random zoom and crop,
            flip, colour), a DataLoader with one worker per core, cross-entropy at full resolution, AdamW, FP32;
  ours      `Trainer`, as a trial runs it, with its defaults and the same loss (decoded once, changes on whole batches, channels last;
            bfloat16 on a GPU);
  network   forward, loss and backward of ours on one batch that never changes: the upper bound of any data loading.
The same images, batch size, optimizer, threads and device; the plain loop runs in a separate process with torch's default settings.
--pairs rounds are made; the median of each is shown, and the ratio is the median of the rounds' own ratios. CPU seconds are of the
process and its data workers: they hardly depend on what else runs there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from hw_latency_model.agent.cores import available_cores

os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks._camvid import camvid_order, camvid_study, default_candidate
from benchmarks._plain_loop import PlainLoop
from objectives.data import ArraySplit
from search_spaces import open_space, upsample_logits
from search_spaces._common.files import write_json
from search_spaces.candidate import Candidate
from search_spaces.spaces.encoder_decoder import parse_resolution
from trial_runner.config.study import StudyConfig
from trial_runner.training.batches import normalise
from trial_runner.training.runtime import configure_torch, memory_format
from trial_runner.training.trainer import Trainer
from trial_runner.training.trial import load_splits, open_split, torch_device

RATE, DECAY, CLASSES, IGNORED = 2e-3, 1e-3, 11, 255


def main(arguments: Sequence[str] | None = None) -> None:
    cores = available_cores()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CamVid folder")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/train_throughput"), help="folder for decoded images")
    parser.add_argument("--networks", default="mobilenetv2:1.0,mobilenetv3_small:0.5", help="family:width, …")
    parser.add_argument("--size", default="192x256", help="height x width of the input, multiples of 32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=96, help="of the training split, each round")
    parser.add_argument("--pairs", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, default=cores, help="torch threads (default: all cores)")
    parser.add_argument("--workers", type=int, default=cores, help="processes of the plain loop's DataLoader")
    options = parser.parse_args(arguments)
    rows = []
    for text in options.networks.split(","):
        family, _, width = text.partition(":")
        rows.append(compare(family, float(width or 1.0), options))
        write_json(options.json, rows)
    print_table(rows)


def compare(family: str, width: float, options: argparse.Namespace) -> dict[str, Any]:
    """One network's row."""
    device = torch_device("auto")
    hw = parse_resolution(options.size)
    config = camvid_study(
        options.data,
        options.out,
        {"batch_size": options.batch, "epochs": 1000, "mixed_precision": True, "warmup_epochs": 0},
        sizes_px=[hw],
        threads=options.threads,
        seed=1,
        space={"families": [family], "widths": [width], "decoders": ["fpn"], "prune_ratios": [0.0]},
    )
    configure_torch(config.training, options.threads)
    started = time.monotonic()
    trainer, candidate = make_trainer(config, options, device)
    decode_s = time.monotonic() - started
    alone = NetworkAlone(trainer.net, config, hw, options.batch, device)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other:

        def one_round() -> dict[str, dict[str, float]]:
            plain = other.submit(plain_round, config.model_dump(mode="json"), candidate.to_dict(), options).result()
            return {
                "plain": plain,
                "ours": timed(trainer.train_only, device),
                "network": timed(alone.run, device),
            }

        one_round()  # warms up
        trainer.train_s = trainer.data_s = 0.0
        rounds = [one_round() for _ in range(options.pairs)]
    images = {"plain": trainer.images, "ours": trainer.images, "network": options.batch * alone.steps}
    per_s = {name: [images[name] / turn[name]["wall_s"] for turn in rounds] for name in images}
    cpu_ms = {name: statistics.median(1e3 * turn[name]["cpu_s"] / images[name] for turn in rounds) for name in images}
    return {
        "network": f"{family} ×{width:g} + fpn {options.size}",
        "device": str(device),
        "threads": options.threads,
        "batch": options.batch,
        "first_start_s": decode_s,
        **{f"{name}_images_per_s": statistics.median(values) for name, values in per_s.items()},
        **{f"{name}_cpu_ms_per_image": value for name, value in cpu_ms.items()},
        "ours_over_plain": statistics.median(o / p for o, p in zip(per_s["ours"], per_s["plain"], strict=True)),
        "ours_over_plain_cpu": cpu_ms["plain"] / cpu_ms["ours"],
        "ours_over_network": statistics.median(o / n for o, n in zip(per_s["ours"], per_s["network"], strict=True)),
        "plain_waiting_share": statistics.median(
            turn["plain"]["waited_s"] / turn["plain"]["wall_s"] for turn in rounds
        ),
        "ours_waiting_share": trainer.data_s / trainer.train_s,
        "limit": "data" if trainer.data_s > 0.5 * trainer.train_s else "network",
    }


class _Trainer(Trainer):
    """Trains epochs without evaluating them."""

    def train_only(self) -> None:
        started = time.monotonic()
        self._train_epoch()
        self.train_s += time.monotonic() - started


def make_trainer(config: StudyConfig, options: argparse.Namespace, device: torch.device) -> tuple[_Trainer, Candidate]:
    space = open_space(config.space)
    candidate = default_candidate(config, learning_rate=RATE, weight_decay=DECAY)
    order = camvid_order(config, candidate, options.out / "trial", options.out)
    info, train, val = load_splits(order, space.input_hw(candidate))
    part = ArraySplit(train.images[: options.images], train.train_labels[: options.images], [])
    made = _Trainer(
        order, space, part, val, num_classes=info.num_classes, ignore_index=info.ignore_index, device=device
    )
    return made, candidate


_PLAIN: dict[str, PlainLoop] = {}


def plain_round(config: dict[str, Any], candidate: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """One round of the plain loop, in a process that keeps it from round to round."""
    device = torch_device("auto")
    chosen = Candidate.from_dict(candidate)
    if chosen.id not in _PLAIN:
        torch.set_num_threads(options.threads)
        study = StudyConfig.model_validate(config)
        data = open_split(study.data, "train", 1)
        net = open_space(study.space).build(chosen, data.info.num_classes).to(device)
        _PLAIN[chosen.id] = PlainLoop(
            net,
            torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY),
            data,
            parse_resolution(options.size),
            images=options.images,
            batch=options.batch,
            workers=options.workers,
            device=device,
        )
    loop = _PLAIN[chosen.id]
    return {**timed(loop.run, device), "waited_s": loop.waited_s}


def timed(work: Callable[[], None], device: torch.device) -> dict[str, float]:
    before, wall = os.times(), time.monotonic()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    after = os.times()
    cpu_s = sum(after[:4]) - sum(before[:4])  # user, system, and the same of workers that have ended
    return {"wall_s": time.monotonic() - wall, "cpu_s": cpu_s}


class NetworkAlone:
    """Forward, loss and backward on one batch that never changes."""

    steps = 6

    def __init__(
        self, net: nn.Module, config: StudyConfig, hw: tuple[int, int], batch: int, device: torch.device
    ) -> None:
        rng = np.random.default_rng(0)
        self._net, self._device = net, device
        images = normalise(rng.integers(0, 256, (batch, *hw, 3), np.uint8), device)
        self._images = images.contiguous(memory_format=memory_format(net, config.training))
        self._labels = torch.from_numpy(rng.integers(0, CLASSES, (batch, *hw))).to(device)

    def run(self) -> None:
        self._net.train()
        for _ in range(self.steps):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
                logits = upsample_logits(self._net(self._images), tuple(self._labels.shape[1:]))
            loss = functional.cross_entropy(logits.float(), self._labels, ignore_index=IGNORED)
            self._net.zero_grad(set_to_none=True)
            loss.backward()


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    print(
        f"\n{'network':<36}{'plain':>8}{'ours':>8}{'network':>9} images/s{'ours/plain':>12}{'by CPU':>8}"
        f"{'ours/network':>14}{'waiting: plain':>16}{'ours':>7}"
    )
    for row in rows:
        print(
            f"{row['network']:<36}{row['plain_images_per_s']:>8.1f}{row['ours_images_per_s']:>8.1f}"
            f"{row['network_images_per_s']:>9.1f}         {row['ours_over_plain']:>12.2f}{row['ours_over_plain_cpu']:>8.2f}"
            f"{row['ours_over_network']:>14.2f}{row['plain_waiting_share']:>16.0%}{row['ours_waiting_share']:>7.0%}"
        )


if __name__ == "__main__":
    main()
