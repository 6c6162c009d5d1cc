"""DeepLab heads: atrous spatial pyramid pooling, alone (V3) or combined with a fine feature (V3+)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search_spaces.networks import layers
from search_spaces.networks.backbones import scale_channels
from search_spaces.networks.layers import (
    SegmentationHead,
    conv_bn,
    conv_bn_relu,
    depthwise_separable_conv,
    double_conv,
    initialise,
)

_RATES_PX = (96, 192, 288)
"""Dilations of the three convolutions in image pixels: rates 6, 12 and 18 at stride 16, as in the paper."""
_LOW_LEVEL_SHARE = 48 / 256


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with image-level features, section 3.3 of DeepLabV3 (arXiv 1706.05587).

    The pooled branch is added after the projection instead of being upsampled and concatenated before it, which is equivalent
    and needs no resize; it has no batch norm, which fails on a batch of one image.
    """

    def __init__(self, inputs: int, channels: int, stride: int, *, depthwise: bool) -> None:
        super().__init__()
        branches: list[nn.Module] = [conv_bn_relu(inputs, channels, 1)]
        for reach in _RATES_PX:
            rate = reach // stride
            branches.append(
                depthwise_separable_conv(inputs, channels, dilation=rate)
                if depthwise
                else conv_bn_relu(inputs, channels, 3, dilation=rate)
            )
        self.branches = nn.ModuleList(branches)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, channels, 1), nn.ReLU(inplace=True))
        self.project = conv_bn(len(branches) * channels, channels, 1)
        self.project_pooled = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        joined = torch.cat([branch(features) for branch in self.branches], dim=1)
        return torch.relu(self.project(joined) + self.project_pooled(self.pool(features)))


class DeepLabV3(SegmentationHead):
    """ASPP, a 3x3 convolution and the classifier, at the encoder's own output stride."""

    def __init__(
        self, encoder_channels: Sequence[int], reductions: Sequence[int], channels: int, num_classes: int
    ) -> None:
        super().__init__()
        self.pyramid = ASPP(encoder_channels[0], channels, reductions[0], depthwise=False)
        self.refine = conv_bn_relu(channels, channels, 3)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialise(self, self.classifiers)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(self.refine(self.pyramid(features[0])))
        return logits


class DeepLabV3Plus(SegmentationHead):
    """ASPP, upsampled and concatenated with a projected fine feature, then two convolutions (arXiv 1802.02611)."""

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
        fine, coarse = encoder_channels
        low = scale_channels(channels, _LOW_LEVEL_SHARE)
        self.pyramid = ASPP(coarse, channels, reductions[1], depthwise=depthwise)
        self.enlarge = layers.upsampling(upsampling, channels, reductions[1] // reductions[0])
        self.low_level = conv_bn_relu(fine, low, 1)
        self.refine = double_conv(channels + low, channels, depthwise=depthwise)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialise(self, self.classifiers)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        fine, coarse = features
        joined = torch.cat([self.enlarge(self.pyramid(coarse)), self.low_level(fine)], dim=1)
        logits: Tensor = self.classifier(self.refine(joined))
        return logits
