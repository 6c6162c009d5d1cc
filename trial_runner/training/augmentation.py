"""Augmentation of a training batch in torch: scale, crop, flip and colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_MULTIPLE_PX = 32


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the augmentations.

    Attributes:
        min_scale, max_scale: of the zoom.
        colour_jitter: largest relative change of brightness and contrast.
        crop_ratio: side of the crop relative to the image's, rounded to multiples of 32 pixels.
        label_stride: stride at which labels are sampled, at cell centres.
    """

    min_scale: float
    max_scale: float
    colour_jitter: float
    crop_ratio: float = 1.0
    label_stride: int = 1

    def crop_hw(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a batch of images of that size."""
        if self.crop_ratio >= 1.0:
            return height, width
        rounded = [max(round(side * self.crop_ratio / _MULTIPLE_PX), 1) * _MULTIPLE_PX for side in (height, width)]
        return min(rounded[0], height), min(rounded[1], width)


@dataclass(frozen=True)
class AugmentationParams:
    """Random augmentation parameters of a batch, by image; ``place`` is the crop's offset relative to its free range."""

    scale: NDArray[np.float64]
    mirror: NDArray[np.float64]
    place: NDArray[np.float64]
    contrast: NDArray[np.float64]
    brightness: NDArray[np.float64]

    @classmethod
    def draw(cls, count: int, augmentation: Augmentation, rng: np.random.Generator) -> AugmentationParams:
        jitter = augmentation.colour_jitter
        scale = rng.uniform(augmentation.min_scale, augmentation.max_scale, count)
        mirror = rng.choice([-1.0, 1.0], count)
        place = np.stack([rng.uniform(-1.0, 1.0, count) for _ in range(2)], axis=1)
        contrast = rng.uniform(1 - jitter, 1 + jitter, (count, 1, 1, 1)) if jitter else np.ones((count, 1, 1, 1))
        brightness = rng.normal(0, jitter, (count, 3, 1, 1)) if jitter else np.zeros((count, 3, 1, 1))
        return cls(scale, mirror, place, contrast, brightness)

    def of(self, part: tuple[int, int]) -> AugmentationParams:
        return AugmentationParams(**{name: values[part[0] :: part[1]] for name, values in vars(self).items()})


def augmented(
    images: Tensor, labels: Tensor, augmentation: Augmentation, params: AugmentationParams, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Apply one affine resampling per image (scale, shift, mirror, crop), then brightness and contrast.

    Args:
        images: float32 ``(N, 3, H, W)``.
        labels: int64 ``(N, H, W)``.
    """
    count, _, height, width = images.shape
    crop = augmentation.crop_hw(height, width)
    share = np.array([crop[1] / width, crop[0] / height])  # x, then y, as torch's grids have it
    window = share / params.scale[:, None]
    theta = np.zeros((count, 2, 3), dtype=np.float32)
    theta[:, 0, 0] = params.mirror * window[:, 0]
    theta[:, 1, 1] = window[:, 1]
    theta[:, :, 2] = params.place * np.abs(1 - window)
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
            torch.from_numpy(values.astype(np.float32)).to(images) for values in (params.contrast, params.brightness)
        )
        images = images.mul_(contrast).add_(brightness)
    return images, labels
