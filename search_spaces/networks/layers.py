"""Layers of decoders and published networks. All are supported by TensorRT 8.2, except bicubic resizing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_bn(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution with "same" padding, and batch norm."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def conv_bn_relu(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution with "same" padding, batch norm and ReLU."""
    convolution, norm = conv_bn(inputs, outputs, kernel, stride=stride, dilation=dilation, groups=groups)
    return nn.Sequential(convolution, norm, nn.ReLU(inplace=True))


def depthwise_separable_conv(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Depthwise 3x3 convolution, then a pointwise one, each with batch norm and ReLU."""
    return nn.Sequential(
        conv_bn_relu(inputs, inputs, 3, stride=stride, dilation=dilation, groups=inputs),
        conv_bn_relu(inputs, outputs, 1),
    )


def double_conv(inputs: int, outputs: int, *, depthwise: bool) -> nn.Sequential:
    """Two convolutions over concatenated features.

    If ``depthwise``, the 1x1 convolution comes first: a depthwise one over concatenated features would couple the channels of
    both sources, and the pruned shape would depend on the weights.
    """
    if depthwise:
        return nn.Sequential(conv_bn_relu(inputs, outputs, 1), conv_bn_relu(outputs, outputs, 3, groups=outputs))
    return nn.Sequential(conv_bn_relu(inputs, outputs, 3), conv_bn_relu(outputs, outputs, 3))


class Interpolate(nn.Module):
    """Upsampling of (N, C, h, w) by an integer factor, with half-pixel centres."""

    def __init__(self, factor: int, mode: str) -> None:
        super().__init__()
        self.factor = float(factor)
        self.mode = mode

    def forward(self, features: Tensor) -> Tensor:
        return functional.interpolate(features, scale_factor=self.factor, mode=self.mode, align_corners=False)


def upsampling(kind: str, channels: int, factor: int) -> nn.Module:
    """Make a module that upsamples (N, channels, h, w) by ``factor``: 1, or an even number.

    ``kind`` is a key of ``decoder_specs.UPSAMPLINGS``. ``transposed`` is a depthwise transposed convolution,
    initialised as bilinear interpolation (as in arXiv 1411.4038, section 4.1).
    """
    if factor == 1:
        return nn.Identity()
    if kind != "transposed":
        return Interpolate(factor, kind)
    layer = nn.ConvTranspose2d(
        channels, channels, 2 * factor, stride=factor, padding=factor // 2, groups=channels, bias=False
    )
    ramp = 1 - (torch.arange(2 * factor, device="cpu") + 0.5 - factor).abs() / factor
    with torch.no_grad():
        layer.weight.copy_((ramp[:, None] * ramp).expand_as(layer.weight))
    return layer


def resize_like(features: Tensor, other: Tensor) -> Tensor:
    """Resize bilinearly to the height and width of ``other``."""
    hw = fixed_hw(other)
    if fixed_hw(features) == hw:
        return features
    return functional.interpolate(features, size=hw, mode="bilinear", align_corners=False)


def fixed_hw(features: Tensor) -> tuple[int, int]:
    """Height and width as integers, which become constants in an exported graph."""
    return int(features.shape[-2]), int(features.shape[-1])


class SegmentationHead(nn.Module):
    """Base class of decoders that end in one ``classifier``."""

    classifier: nn.Conv2d

    @property
    def classifiers(self) -> tuple[nn.Conv2d, ...]:
        """The layers whose output channels are the classes; pruning keeps these channels."""
        return (self.classifier,)


def initialise(module: nn.Module, classifiers: Sequence[nn.Conv2d]) -> None:
    """Initialise convolutions by Kaiming's method and classifiers by small weights, for near-uniform initial probabilities."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    for classifier in classifiers:
        nn.init.normal_(classifier.weight, std=0.01)
        if classifier.bias is not None:
            nn.init.zeros_(classifier.bias)
