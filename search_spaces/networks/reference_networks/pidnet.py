"""PIDNet-S (arXiv 2206.02066): branches for detail, context and boundaries, as the terms of a PID controller."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.networks.backbones import scale_channels
from search_spaces.networks.layers import conv_bn, conv_bn_relu, initialise, resize_like
from search_spaces.networks.reference_networks.parts import (
    BOTTLENECK_EXPANSION,
    BasicBlock,
    Bottleneck,
    ContextPyramid,
    ConvHead,
    basic_blocks,
)


def pidnet_s(width: float, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """Build PIDNet-S: as published with m = 2, n = 3 and 32 planes, without the auxiliary boundary head."""
    planes, pooled, head = (scale_channels(count, width) for count in (32, 96, 128))
    inputs = planes * 4
    return PIDNetBackbone(planes, pooled), ConvHead(conv_bn_relu(inputs, head, 3), head, num_classes)


class PIDNetBackbone(nn.Module):
    """Backbone with one feature at stride 8 of ``4 * planes`` channels."""

    def __init__(self, planes: int, pooled: int) -> None:
        super().__init__()
        fine, outputs = planes * 2, planes * 4
        self.stem = nn.Sequential(conv_bn_relu(3, planes, 3, stride=2), conv_bn_relu(planes, planes, 3, stride=2))
        self.stage1 = basic_blocks(planes, planes, 2)
        self.stage2 = basic_blocks(planes, fine, 2, stride=2)
        self.context3 = basic_blocks(fine, planes * 4, 3, stride=2)
        self.context4 = basic_blocks(planes * 4, planes * 8, 3, stride=2)
        self.context5 = nn.Sequential(
            Bottleneck(planes * 8, planes * 8, stride=2),
            Bottleneck(planes * 8 * BOTTLENECK_EXPANSION, planes * 8, relu=False),
        )
        self.pyramid = ContextPyramid(planes * 8 * BOTTLENECK_EXPANSION, pooled, outputs, chained=False)
        self.detail3 = basic_blocks(fine, fine, 2)
        self.detail4 = basic_blocks(fine, fine, 2)
        self.detail5 = Bottleneck(fine, fine, relu=False)
        self.guide3 = PixelAttention(fine, planes)
        self.guide4 = PixelAttention(fine, planes)
        self.compress3 = conv_bn(planes * 4, fine, 1)
        self.compress4 = conv_bn(planes * 8, fine, 1)
        self.boundary3 = BasicBlock(fine, planes, relu=False)
        self.boundary4 = Bottleneck(planes, planes, relu=False)
        self.boundary5 = Bottleneck(fine, fine, relu=False)
        self.differ3 = conv_bn(planes * 4, planes, 3)
        self.differ4 = conv_bn(planes * 8, fine, 3)
        self.merge = BoundaryFusion(outputs)
        initialise(self, ())

    def forward(self, images: Tensor) -> list[Tensor]:
        relu = functional.relu
        shared = relu(self.stage2(relu(self.stage1(self.stem(images)))))
        detail, boundary = self.detail3(shared), self.boundary3(shared)
        context = relu(self.context3(shared))
        detail = self.guide3(detail, self.compress3(context))
        boundary = boundary + resize_like(self.differ3(context), boundary)
        context = relu(self.context4(context))
        detail, boundary = self.detail4(relu(detail)), self.boundary4(relu(boundary))
        detail = self.guide4(detail, self.compress4(context))
        boundary = boundary + resize_like(self.differ4(context), boundary)
        detail, boundary = self.detail5(relu(detail)), self.boundary5(relu(boundary))
        context = resize_like(self.pyramid(self.context5(context)), detail)
        return [relu(self.merge(detail, context, boundary))]


class PixelAttention(nn.Module):
    """Pixel-attention-guided fusion (Pag) of detail and context.

    The attention has one value per channel, the authors' variant with a 1x1 convolution, so that channels can be pruned."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.query = conv_bn(channels, inner, 1)
        self.key = conv_bn(channels, inner, 1)
        self.weigh = conv_bn(inner, channels, 1)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        agreement = self.key(detail) * resize_like(self.query(context), detail)
        share = torch.sigmoid(self.weigh(agreement))
        return detail + share * (resize_like(context, detail) - detail)


class BoundaryFusion(nn.Module):
    """Boundary-attention-guided fusion (Light-Bag): detail at boundaries, context elsewhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail = conv_bn(channels, channels, 1)
        self.context = conv_bn(channels, channels, 1)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        edge = torch.sigmoid(boundary)
        fused: Tensor = self.detail(detail + context - edge * context) + self.context(context + edge * detail)
        return fused
