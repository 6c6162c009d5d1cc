"""Light decoders from encoder features to low-resolution logits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search_spaces.networks import layers
from search_spaces.networks.layers import (
    SegmentationHead,
    conv_bn_relu,
    depthwise_separable_conv,
    double_conv,
    initialise,
)


class LRASPP(nn.Module):
    """Lite reduced atrous spatial pyramid pooling, section 6.4 of MobileNetV3 (arXiv 1905.02244).

    The coarse feature is gated by its global average and upsampled to the fine one; the logits of both are added.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        reductions: Sequence[int],
        channels: int,
        num_classes: int,
        *,
        upsampling: str = "bilinear",
    ) -> None:
        super().__init__()
        fine, coarse = encoder_channels
        self.project = conv_bn_relu(coarse, channels, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(coarse, channels, 1, bias=False), nn.Sigmoid())
        self.fine_classifier = nn.Conv2d(fine, num_classes, 1)
        self.coarse_classifier = nn.Conv2d(channels, num_classes, 1)
        self.enlarge = layers.upsampling(upsampling, channels, reductions[1] // reductions[0])
        initialise(self, self.classifiers)

    @property
    def classifiers(self) -> tuple[nn.Conv2d, ...]:
        """The layers whose output channels are the classes; pruning keeps these channels."""
        return self.fine_classifier, self.coarse_classifier

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        fine, coarse = features
        coarse = self.enlarge(self.project(coarse) * self.gate(coarse))
        logits: Tensor = self.fine_classifier(fine) + self.coarse_classifier(coarse)
        return logits


class LightFPN(SegmentationHead):
    """Feature pyramid (arXiv 1612.03144) with additive merges, each refined by a depthwise-separable or dense 3x3 convolution."""

    def __init__(
        self,
        encoder_channels: Sequence[int],
        reductions: Sequence[int],
        channels: int,
        num_classes: int,
        *,
        upsampling: str = "bilinear",
        depthwise: bool = True,
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(conv_bn_relu(count, channels, 1) for count in encoder_channels)
        self.refines = nn.ModuleList(
            depthwise_separable_conv(channels, channels) if depthwise else conv_bn_relu(channels, channels, 3)
            for _ in encoder_channels[:-1]
        )
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.enlarge = nn.ModuleList(
            layers.upsampling(upsampling, channels, coarse // fine) for fine, coarse in itertools.pairwise(reductions)
        )
        initialise(self, self.classifiers)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        merged = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        top = merged.pop()
        for refine, enlarge in zip(reversed(self.refines), reversed(self.enlarge), strict=True):
            top = refine(enlarge(top) + merged.pop())
        logits: Tensor = self.classifier(top)
        return logits


class UNetDecoder(SegmentationHead):
    """The expanding path of a U-Net (arXiv 1505.04597) up to the resolution of the finest input feature.

    At each level the coarser map is upsampled, concatenated with the encoder's feature, and passed through two convolutions.
    ``channels`` is the width of the finest level; it doubles per coarser level, up to a factor of four.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        reductions: Sequence[int],
        channels: int,
        num_classes: int,
        *,
        upsampling: str = "bilinear",
        depthwise: bool = True,
    ) -> None:
        super().__init__()
        levels, enlarge = [], []
        coarse = encoder_channels[-1]
        for level in reversed(range(len(encoder_channels) - 1)):
            width = channels * min(2**level, 4)
            enlarge.append(layers.upsampling(upsampling, coarse, reductions[level + 1] // reductions[level]))
            levels.append(double_conv(coarse + encoder_channels[level], width, depthwise=depthwise))
            coarse = width
        self.enlarge = nn.ModuleList(enlarge)
        self.levels = nn.ModuleList(levels)
        self.classifier = nn.Conv2d(coarse, num_classes, 1)
        initialise(self, self.classifiers)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        top, skips = features[-1], reversed(features[:-1])
        for enlarge, level, skip in zip(self.enlarge, self.levels, skips, strict=True):
            top = level(torch.cat([enlarge(top), skip], dim=1))
        logits: Tensor = self.classifier(top)
        return logits
