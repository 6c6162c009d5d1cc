"""Batches from arrays in memory or mapped files: augmented for training, or unchanged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from objectives.data.base import IMAGENET, Normalisation
from trial_runner.training.augmentation import Augmentation, AugmentationParams, augmented


def normalise(
    images: NDArray[np.uint8] | Tensor, device: torch.device, normalisation: Normalisation = IMAGENET
) -> Tensor:
    """Convert uint8 ``(N, H, W, 3)`` RGB to normalised float32 ``(N, 3, H, W)``."""
    batch = (
        torch.tensor(images, device=device) if isinstance(images, np.ndarray) else images.to(device, non_blocking=True)
    )
    centre, spread = _moments(normalisation, device)
    floats = batch.permute(0, 3, 1, 2).to(torch.float32, copy=True)
    return floats.div_(255).sub_(centre).div_(spread)


@lru_cache
def _moments(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, device=device) for values in (normalisation.mean, normalisation.std))
    return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)


def batch_count(images: int, batch_size: int, parts: int = 1) -> int:
    """Return the number of batches of one epoch. A last batch that gives a part a single image is merged with the previous one:
    batch normalisation needs two."""
    starts = -(-images // batch_size)
    return starts - 1 if starts > 1 and images - (starts - 1) * batch_size < 2 * parts else starts


def plain_batches(
    images: NDArray[np.uint8],
    count: int,
    batch_size: int,
    device: torch.device,
    normalisation: Normalisation = IMAGENET,
) -> Iterator[Tensor]:
    """Up to ``count`` batches of unchanged images, spread evenly over ``images``; float32 ``(batch_size, 3, H, W)``."""
    wanted = min(count, max(len(images) // batch_size, 1)) * min(batch_size, len(images))
    chosen = np.linspace(0, len(images) - 1, wanted).round().astype(np.int64) if wanted else np.empty(0, np.int64)
    for start in range(0, len(chosen), batch_size):
        yield normalise(np.take(images, chosen[start : start + batch_size], axis=0), device, normalisation)


def epoch_batches(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    batch_size: int,
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
    ignore_index: int,
    device: torch.device,
    part: tuple[int, int] = (0, 1),
    normalisation: Normalisation = IMAGENET,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images float32 ``(B, 3, h, w)``, labels int64 ``(B, h / label_stride, w / label_stride)``) over one shuffled pass.

    All randomness comes from (seed, epoch), so an interrupted training that repeats an epoch sees the same batches. The next batch is
    read in the background: only a batch or two of a mapped file are in memory.

    Args:
        images, labels: uint8 (N, H, W, 3) and (N, H, W), in memory or mapped.
        batch_size: of all parts together.
        part: (rank, size) of a process among those that share each batch: it gets every ``size``-th image of each.
        device: of the augmentation and the batches.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(images))
    count = batch_count(len(images), batch_size, part[1])
    ends = [*(batch_size * position for position in range(1, count)), len(order)]
    chosen = [np.sort(order[start:end]) for start, end in itertools.pairwise([0, *ends])]

    def read(position: int) -> tuple[Tensor, Tensor]:
        mine = chosen[position][part[0] :: part[1]]
        found = [torch.from_numpy(np.take(array, mine, axis=0)) for array in (images, labels)]
        if device.type == "cuda":
            found = [tensor.pin_memory() for tensor in found]
        return found[0], found[1]

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, 0)
        for position, batch in enumerate(chosen):
            pixels, classes = coming.result()
            if position + 1 < count:
                coming = reader.submit(read, position + 1)
            params = AugmentationParams.draw(len(batch), augmentation, rng).of(part)
            floats, classes = normalise(pixels, device, normalisation), classes.to(device, non_blocking=True)
            yield augmented(floats, classes, augmentation, params, ignore_index)
