"""U-Net (arXiv 1505.04597) with batch norm and padded convolutions; logits at the image's resolution."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search_spaces.networks.backbones import scale_channels
from search_spaces.networks.layers import SegmentationHead, double_conv, initialise

_CHANNELS = (64, 128, 256, 512, 1024)


def unet(width: float, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """Build U-Net: five levels of two 3x3 convolutions, and 2x2 transposed convolutions in the expanding path."""
    channels = [scale_channels(count, width) for count in _CHANNELS]
    return ContractingPath(channels), ExpandingPath(channels, num_classes)


class ContractingPath(nn.Module):
    """Contracting path with one feature per level, finest first."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        inputs = (3, *channels[:-1])
        self.levels = nn.ModuleList(
            double_conv(before, count, depthwise=False) for before, count in zip(inputs, channels, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        initialise(self, ())

    def forward(self, images: Tensor) -> list[Tensor]:
        features = [self.levels[0](images)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        return features


class ExpandingPath(SegmentationHead):
    """Expanding path: upsampling, concatenation with the finer level, two convolutions."""

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))[::-1]
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.levels = nn.ModuleList(double_conv(2 * fine, fine, depthwise=False) for fine, _ in pairs)
        self.classifier = nn.Conv2d(channels[0], num_classes, 1)
        initialise(self, self.classifiers)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        top = features[-1]
        for enlarge, level, skip in zip(self.enlarge, self.levels, reversed(features[:-1]), strict=True):
            top = level(torch.cat([enlarge(top), skip], dim=1))
        logits: Tensor = self.classifier(top)
        return logits
