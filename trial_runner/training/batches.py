"""Training batches out of arrays in memory or mapped: random scale, crop, flip and colour, in torch, on whole batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
_MULTIPLE_PX = 32
_CHUNK = 64


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes.

    Attributes:
        min_scale, max_scale: of the zoom.
        colour_jitter: largest relative change of brightness and contrast.
        crop_share: side of what is shown, as a share of the image's, rounded to multiples of 32 pixels.
        label_stride: the labels of a batch are those of every so-manieth pixel, at the centres of the squares.
    """

    min_scale: float
    max_scale: float
    colour_jitter: float
    crop_share: float = 1.0
    label_stride: int = 1

    def crop_hw(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a batch of images of that size."""
        if self.crop_share >= 1.0:
            return height, width
        rounded = [max(round(side * self.crop_share / _MULTIPLE_PX), 1) * _MULTIPLE_PX for side in (height, width)]
        return min(rounded[0], height), min(rounded[1], width)


def normalise(
    images: NDArray[np.uint8] | Tensor,
    device: torch.device,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Tensor:
    """uint8 ``(N, H, W, 3)`` RGB to float32 ``(N, 3, H, W)``; ImageNet's mean and standard deviation by default."""
    batch = (
        torch.tensor(images, device=device) if isinstance(images, np.ndarray) else images.to(device, non_blocking=True)
    )
    centre, spread = _moments(tuple(mean), tuple(std), device)
    floats = batch.permute(0, 3, 1, 2).to(torch.float32, copy=True)
    return floats.div_(255).sub_(centre).div_(spread)


@lru_cache
def _moments(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(mean, device=device).view(1, 3, 1, 1), torch.tensor(std, device=device).view(1, 3, 1, 1)


def batch_count(images: int, batch_size: int, parts: int = 1) -> int:
    """Batches of one pass. A last one that leaves a part with a single image is joined to the one before it: batch
    normalisation needs two."""
    starts = -(-images // batch_size)
    return starts - 1 if starts > 1 and images - (starts - 1) * batch_size < 2 * parts else starts


def plain_batches(images: NDArray[np.uint8], count: int, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Up to ``count`` batches of unchanged images, spread evenly over ``images``; float32 ``(batch_size, 3, H, W)``."""
    wanted = min(count, max(len(images) // batch_size, 1)) * min(batch_size, len(images))
    chosen = np.linspace(0, len(images) - 1, wanted).round().astype(np.int64) if wanted else np.empty(0, np.int64)
    for start in range(0, len(chosen), batch_size):
        yield normalise(np.take(images, chosen[start : start + batch_size], axis=0), device)


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
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images float32 ``(B, 3, h, w)``, labels int64 ``(B, h / label_stride, w / label_stride)``) over one shuffled pass.

    All randomness comes from (seed, epoch), so an interrupted training that repeats an epoch sees the same batches. The images of
    the next batch are read while this one is learnt from: only a batch or two of a mapped file are in memory.

    Args:
        images, labels: uint8 (N, H, W, 3) and (N, H, W), in memory or mapped.
        batch_size: of all parts together.
        part: (rank, size) of a process among those that share each batch: it gets every ``size``-th image of each.
        device: where the images are changed, and what gets them.
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
            moves = _Moves.draw(len(batch), augmentation, rng).of(part)
            yield _augment(
                normalise(pixels, device), classes.to(device, non_blocking=True), augmentation, moves, ignore_index
            )


@dataclass(frozen=True)
class _Moves:
    """The random numbers of a batch, by image: the place of the window in units of the room that it has, and the colours."""

    scale: NDArray[np.float64]
    mirror: NDArray[np.float64]
    place: NDArray[np.float64]
    contrast: NDArray[np.float64]
    brightness: NDArray[np.float64]

    @classmethod
    def draw(cls, count: int, augmentation: Augmentation, rng: np.random.Generator) -> _Moves:
        jitter = augmentation.colour_jitter
        scale = rng.uniform(augmentation.min_scale, augmentation.max_scale, count)
        mirror = rng.choice([-1.0, 1.0], count)
        place = np.stack([rng.uniform(-1.0, 1.0, count) for _ in range(2)], axis=1)
        contrast = rng.uniform(1 - jitter, 1 + jitter, (count, 1, 1, 1)) if jitter else np.ones((count, 1, 1, 1))
        brightness = rng.normal(0, jitter, (count, 3, 1, 1)) if jitter else np.zeros((count, 3, 1, 1))
        return cls(scale, mirror, place, contrast, brightness)

    def of(self, part: tuple[int, int]) -> _Moves:
        return _Moves(**{name: values[part[0] :: part[1]] for name, values in vars(self).items()})


def _augment(
    images: Tensor, labels: Tensor, augmentation: Augmentation, moves: _Moves, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """One random affine sampling per image (scale, shift, mirror, crop), then brightness and contrast."""
    count, _, height, width = images.shape
    crop = augmentation.crop_hw(height, width)
    share = np.array([crop[1] / width, crop[0] / height])  # x, then y, as torch's grids have it
    window = share / moves.scale[:, None]
    theta = np.zeros((count, 2, 3), dtype=np.float32)
    theta[:, 0, 0] = moves.mirror * window[:, 0]
    theta[:, 1, 1] = window[:, 1]
    theta[:, :, 2] = moves.place * np.abs(1 - window)
    transform = torch.from_numpy(theta).to(images)
    grid = functional.affine_grid(transform, [count, 1, *crop], align_corners=False)
    images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if augmentation.label_stride > 1:
        size = [side // augmentation.label_stride for side in crop]
        grid = functional.affine_grid(transform, [count, 1, *size], align_corners=False)
    shifted = (labels.to(images.dtype) + 1).masked_fill_(labels == ignore_index, 0)[:, None]
    moved = functional.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0]
    labels = (moved.long() - 1).masked_fill_(moved == 0, ignore_index)
    if augmentation.colour_jitter:
        contrast, brightness = (
            torch.from_numpy(values.astype(np.float32)).to(images) for values in (moves.contrast, moves.brightness)
        )
        images = images.mul_(contrast).add_(brightness)
    return images, labels


def class_weights(labels: NDArray[np.uint8], num_classes: int, ignore_index: int) -> Tensor:
    """Weights of 1 / sqrt(frequency), mean 1 over the classes that occur; 0 for a class that does not. Shape ``(classes,)``."""
    counts = np.zeros(num_classes)
    for start in range(0, len(labels), _CHUNK):  # a mapped file need not fit into memory
        part = labels[start : start + _CHUNK]
        counts += np.bincount(part[part != ignore_index].ravel(), minlength=num_classes)[:num_classes]
    weights = np.divide(1.0, np.sqrt(counts), out=np.zeros(num_classes), where=counts > 0)
    return torch.from_numpy((weights / weights[weights > 0].mean()).astype(np.float32))
