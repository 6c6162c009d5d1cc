"""DDRNet-23-slim (arXiv 2101.06085): a branch at stride 8, a branch down to stride 64, and bilateral fusion."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from search_spaces.networks.backbones import scale_channels
from search_spaces.networks.layers import conv_bn, conv_bn_relu, initialise, resize_like
from search_spaces.networks.reference_networks.parts import (
    BOTTLENECK_EXPANSION,
    Bottleneck,
    ContextPyramid,
    ConvHead,
    basic_blocks,
)


def ddrnet23_slim(width: float, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """Build DDRNet-23-slim: table 1 of the paper with 32 planes and a head of 64 channels."""
    planes, head = scale_channels(32, width), scale_channels(64, width)
    inputs = planes * 4
    return DDRNetBackbone(planes), ConvHead(conv_bn_relu(inputs, head, 3), head, num_classes)


class DDRNetBackbone(nn.Module):
    """Backbone with one feature at stride 8 of ``4 * planes`` channels."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        fine = planes * 2
        last = planes * 8 * BOTTLENECK_EXPANSION
        self.stem = nn.Sequential(conv_bn_relu(3, planes, 3, stride=2), conv_bn_relu(planes, planes, 3, stride=2))
        self.stage1 = basic_blocks(planes, planes, 2)
        self.stage2 = basic_blocks(planes, fine, 2, stride=2)
        self.coarse3 = basic_blocks(fine, planes * 4, 2, stride=2)
        self.coarse4 = basic_blocks(planes * 4, planes * 8, 2, stride=2)
        self.coarse5 = Bottleneck(planes * 8, planes * 8, stride=2, relu=False)
        self.fine3 = basic_blocks(fine, fine, 2)
        self.fine4 = basic_blocks(fine, fine, 2)
        self.fine5 = Bottleneck(fine, fine, relu=False)
        self.up3 = conv_bn(planes * 4, fine, 1)
        self.up4 = conv_bn(planes * 8, fine, 1)
        self.down3 = conv_bn(fine, planes * 4, 3, stride=2)
        self.down4 = nn.Sequential(
            conv_bn_relu(fine, planes * 4, 3, stride=2), conv_bn(planes * 4, planes * 8, 3, stride=2)
        )
        self.context = ContextPyramid(last, planes * 4, planes * 4, chained=True)
        initialise(self, ())

    def forward(self, images: Tensor) -> list[Tensor]:
        relu = functional.relu
        shared = relu(self.stage2(relu(self.stage1(self.stem(images)))))
        coarse, fine = self.coarse3(shared), self.fine3(shared)
        coarse, fine = (
            coarse + self.down3(relu(fine)),
            fine + resize_like(self.up3(relu(coarse)), fine),
        )
        coarse, fine = self.coarse4(relu(coarse)), self.fine4(relu(fine))
        coarse, fine = (
            coarse + self.down4(relu(fine)),
            fine + resize_like(self.up4(relu(coarse)), fine),
        )
        coarse, fine = self.context(relu(self.coarse5(relu(coarse)))), self.fine5(relu(fine))
        return [relu(fine + resize_like(coarse, fine))]
