"""Fast-SCNN (arXiv 1902.04502): learning to downsample, a global feature extractor, and their fusion at stride 8."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.networks.backbones import scale_channels
from search_spaces.networks.layers import (
    conv_bn,
    conv_bn_relu,
    depthwise_separable_conv,
    fixed_hw,
    initialise,
    resize_like,
)
from search_spaces.networks.reference_networks.parts import ConvHead

_EXPANSION = 6
_PYRAMID_BINS = (1, 2, 3, 6)


def fast_scnn(width: float, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """Build Fast-SCNN: table 1 of the paper without the dropout before the classifier."""
    channels = scale_channels(128, width)
    body = nn.Sequential(depthwise_separable_conv(channels, channels), depthwise_separable_conv(channels, channels))
    return FastSCNNBackbone(width), ConvHead(body, channels, num_classes)


class FastSCNNBackbone(nn.Module):
    """Backbone with one feature at stride 8."""

    def __init__(self, width: float) -> None:
        super().__init__()
        c32, c48, c64, c96, c128 = (scale_channels(count, width) for count in (32, 48, 64, 96, 128))
        self.downsample = nn.Sequential(
            conv_bn_relu(3, c32, 3, stride=2),
            depthwise_separable_conv(c32, c48, stride=2),
            depthwise_separable_conv(c48, c64, stride=2),
        )
        self.context = nn.Sequential(
            *_bottlenecks(c64, c64, 3, stride=2),
            *_bottlenecks(c64, c96, 3, stride=2),
            *_bottlenecks(c96, c128, 3, stride=1),
            PyramidPooling(c128, c128),
        )
        self.fine = conv_bn(c64, c128, 1)
        self.coarse = nn.Sequential(conv_bn_relu(c128, c128, 3, dilation=4, groups=c128), conv_bn(c128, c128, 1))
        initialise(self, ())

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.downsample(images)
        coarse = self.coarse(resize_like(self.context(fine), fine))
        return [functional.relu(self.fine(fine) + coarse)]


class InvertedResidual(nn.Module):
    """Expansion, a 3x3 depthwise convolution, projection (arXiv 1801.04381)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = inputs * _EXPANSION
        self.body = nn.Sequential(
            conv_bn_relu(inputs, inner, 1),
            conv_bn_relu(inner, inner, 3, stride=stride, groups=inner),
            conv_bn(inner, outputs, 1),
        )
        self.residual = (inputs, stride) == (outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.body(features)
        return features + projected if self.residual else projected


class PyramidPooling(nn.Module):
    """Pyramid pooling with 1, 2, 3 and 6 bins per side (arXiv 1612.01105), concatenated with the input.

    Bins overlap if a side is not divisible by them; a map with fewer pixels than bins is not pooled.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        inner = scale_channels(inputs, 1 / len(_PYRAMID_BINS))
        self.levels = nn.ModuleList(nn.Sequential(nn.Conv2d(inputs, inner, 1), nn.ReLU()) for _ in _PYRAMID_BINS)
        self.project = conv_bn_relu(inputs + inner * len(_PYRAMID_BINS), outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        pooled = [
            resize_like(level(_pooled(features, bins)), features)
            for level, bins in zip(self.levels, _PYRAMID_BINS, strict=True)
        ]
        joined: Tensor = self.project(torch.cat([features, *pooled], dim=1))
        return joined


def _pooled(features: Tensor, bins: int) -> Tensor:
    sides = fixed_hw(features)
    strides = [max(1, side // bins) for side in sides]
    kernels = [max(1, side - (bins - 1) * stride) for side, stride in zip(sides, strides, strict=True)]
    return functional.avg_pool2d(features, kernels, strides)


def _bottlenecks(inputs: int, outputs: int, count: int, *, stride: int) -> list[nn.Module]:
    first = InvertedResidual(inputs, outputs, stride)
    return [first, *(InvertedResidual(outputs, outputs, 1) for _ in range(count - 1))]
