"""Training batches out of arrays held in memory: random scale, crop, flip and colour, in torch, on whole batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes. ``colour_jitter`` is the largest relative change of brightness and contrast."""

    min_scale: float
    max_scale: float
    colour_jitter: float


def normalise(
    images: NDArray[np.uint8] | Tensor,
    device: torch.device,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Tensor:
    """uint8 ``(N, H, W, 3)`` RGB to float32 ``(N, 3, H, W)``; ImageNet's mean and standard deviation by default."""
    batch = torch.tensor(images, device=device) if isinstance(images, np.ndarray) else images.to(device)
    batch = batch.permute(0, 3, 1, 2).float().div_(255)
    centre, spread = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std))
    return (batch - centre) / spread


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
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images float32 ``(B, 3, H, W)``, labels int64 ``(B, H, W)``) over one shuffled pass.

    All randomness comes from (seed, epoch), so an interrupted training that repeats an epoch sees the same batches. A last
    batch of a single image is joined to the one before it: batch normalisation needs two.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(images))
    starts = list(range(0, len(order), batch_size))
    if len(starts) > 1 and len(order) - starts[-1] < 2:
        starts.pop()
    for position, start in enumerate(starts):
        end = starts[position + 1] if position + 1 < len(starts) else len(order)
        chosen = np.sort(order[start:end])
        batch = normalise(images[chosen], device)
        target = torch.from_numpy(labels[chosen].astype(np.int64)).to(device)
        yield _augment(batch, target, augmentation, rng, ignore_index)


def _augment(
    images: Tensor, labels: Tensor, augmentation: Augmentation, rng: np.random.Generator, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """One random affine sampling per image (scale, shift, mirror), then brightness and contrast."""
    count, _, height, width = images.shape
    scale = rng.uniform(augmentation.min_scale, augmentation.max_scale, count)
    mirror = rng.choice([-1.0, 1.0], count)
    room = np.abs(1 - 1 / scale)
    theta = np.zeros((count, 2, 3), dtype=np.float32)
    theta[:, 0, 0] = mirror / scale
    theta[:, 1, 1] = 1 / scale
    theta[:, 0, 2] = rng.uniform(-room, room)
    theta[:, 1, 2] = rng.uniform(-room, room)
    grid = functional.affine_grid(torch.from_numpy(theta).to(images), [count, 1, height, width], align_corners=False)
    images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    shifted = (labels + 1).masked_fill(labels == ignore_index, 0).to(images.dtype)[:, None]
    moved = functional.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)[
        :, 0
    ].long()
    labels = torch.where(moved == 0, torch.full_like(moved, ignore_index), moved - 1)
    if augmentation.colour_jitter:
        low, high = 1 - augmentation.colour_jitter, 1 + augmentation.colour_jitter
        contrast = torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32)).to(images)
        brightness = torch.from_numpy(
            rng.normal(0, augmentation.colour_jitter, (count, 3, 1, 1)).astype(np.float32)
        ).to(images)
        images = images * contrast + brightness
    return images, labels


def class_weights(labels: NDArray[np.uint8], num_classes: int, ignore_index: int) -> Tensor:
    """Weights of 1 / sqrt(frequency), mean 1 over the classes that occur; 0 for a class that does not. Shape ``(classes,)``."""
    counts = np.bincount(labels[labels != ignore_index].ravel(), minlength=num_classes)[:num_classes].astype(np.float64)
    weights = np.divide(1.0, np.sqrt(counts), out=np.zeros(num_classes), where=counts > 0)
    return torch.from_numpy((weights / weights[weights > 0].mean()).astype(np.float32))
