"""Blocks of DDRNet and PIDNet: residual blocks, context pyramid, and the head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.networks.layers import SegmentationHead, conv_bn, conv_bn_relu, initialise, resize_like

BOTTLENECK_EXPANSION = 2
_WINDOWS = ((5, 2), (9, 4), (17, 8))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (arXiv 1512.03385); without the last ReLU if ``relu`` is false."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn_relu(inputs, outputs, 3, stride=stride), conv_bn(outputs, outputs, 3))
        self.shortcut = _shortcut(inputs, outputs, stride)
        self.relu = relu

    def forward(self, features: Tensor) -> Tensor:
        merged: Tensor = self.body(features) + self.shortcut(features)
        return functional.relu(merged) if self.relu else merged


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 to twice as many channels as ``planes``, and a shortcut; without the last ReLU if ``relu`` is false."""

    def __init__(self, inputs: int, planes: int, *, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        outputs = planes * BOTTLENECK_EXPANSION
        self.body = nn.Sequential(
            conv_bn_relu(inputs, planes, 1), conv_bn_relu(planes, planes, 3, stride=stride), conv_bn(planes, outputs, 1)
        )
        self.shortcut = _shortcut(inputs, outputs, stride)
        self.relu = relu

    def forward(self, features: Tensor) -> Tensor:
        merged: Tensor = self.body(features) + self.shortcut(features)
        return functional.relu(merged) if self.relu else merged


def basic_blocks(inputs: int, outputs: int, count: int, *, stride: int = 1) -> nn.Sequential:
    """``count`` basic blocks, the first with ``stride``, the last without its ReLU."""
    blocks = [
        BasicBlock(
            inputs if index == 0 else outputs, outputs, stride=stride if index == 0 else 1, relu=index < count - 1
        )
        for index in range(count)
    ]
    return nn.Sequential(*blocks)


class ContextPyramid(nn.Module):
    """Context pyramid of average pools with increasing windows, up to the whole image, on the coarsest map.

    If ``chained``, each level is refined together with the previous one (DAPPM, arXiv 2101.06085), else with the first (PAPPM,
    arXiv 2206.02066; its convolution in four groups is four convolutions here, which are equivalent and can be pruned).
    """

    def __init__(self, inputs: int, inner: int, outputs: int, *, chained: bool) -> None:
        super().__init__()
        self.chained = chained
        self.whole = conv_bn_relu(inputs, inner, 1)
        windows = [
            nn.Sequential(nn.AvgPool2d(kernel, stride, kernel // 2), conv_bn_relu(inputs, inner, 1))
            for kernel, stride in _WINDOWS
        ]
        image = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, inner, 1), nn.ReLU())
        self.scales = nn.ModuleList([*windows, image])
        self.refines = nn.ModuleList(conv_bn_relu(inner, inner, 3) for _ in self.scales)
        self.compress = conv_bn(inner * (len(self.scales) + 1), outputs, 1)
        self.shortcut = conv_bn(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        levels = [self.whole(features)]
        for scale, refine in zip(self.scales, self.refines, strict=True):
            base = levels[-1] if self.chained else levels[0]
            levels.append(refine(resize_like(scale(features), features) + base))
        joined: Tensor = self.compress(torch.cat(levels, dim=1)) + self.shortcut(features)
        return joined


class ConvHead(SegmentationHead):
    """Head of convolutions on the backbone's last feature and a classifier."""

    def __init__(self, body: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialise(self, self.classifiers)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(self.body(features[-1]))
        return logits


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Identity() if (inputs, stride) == (outputs, 1) else conv_bn(inputs, outputs, 1, stride=stride)
