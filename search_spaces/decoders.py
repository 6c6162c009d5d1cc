"""Light decoders: encoder features to low-resolution logits. Only operations that TensorRT 8.2 takes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class LRASPP(nn.Module):
    """Lite reduced atrous spatial pyramid pooling, section 6.4 of MobileNetV3 (arXiv 1905.02244).

    The coarsest feature is gated by its own global average, then brought to the fine one's size, where both are
    classified and added.
    """

    def __init__(
        self, encoder_channels: Sequence[int], reductions: Sequence[int], channels: int, num_classes: int
    ) -> None:
        super().__init__()
        fine, coarse = encoder_channels
        self.upscale = reductions[1] / reductions[0]
        self.project = _conv_bn_relu(coarse, channels, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(coarse, channels, 1, bias=False), nn.Sigmoid())
        self.fine_classifier = nn.Conv2d(fine, num_classes, 1)
        self.coarse_classifier = nn.Conv2d(channels, num_classes, 1)
        _initialise(self, self.classifiers)

    @property
    def classifiers(self) -> tuple[nn.Conv2d, ...]:
        """The layers whose outputs are classes: pruning leaves these outputs alone."""
        return self.fine_classifier, self.coarse_classifier

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        fine, coarse = features
        coarse = self.project(coarse) * self.gate(coarse)
        coarse = functional.interpolate(coarse, scale_factor=self.upscale, mode="bilinear", align_corners=False)
        logits: Tensor = self.fine_classifier(fine) + self.coarse_classifier(coarse)
        return logits


class LightFPN(nn.Module):
    """Feature pyramid (arXiv 1612.03144) with additive merges, each refined by one depthwise-separable convolution."""

    def __init__(
        self, encoder_channels: Sequence[int], reductions: Sequence[int], channels: int, num_classes: int
    ) -> None:
        super().__init__()
        self.upscales = [coarse / fine for fine, coarse in itertools.pairwise(reductions)]
        self.laterals = nn.ModuleList(_conv_bn_relu(count, channels, 1) for count in encoder_channels)
        self.refines = nn.ModuleList(_separable(channels) for _ in encoder_channels[:-1])
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        _initialise(self, self.classifiers)

    @property
    def classifiers(self) -> tuple[nn.Conv2d, ...]:
        """The layers whose outputs are classes: pruning leaves these outputs alone."""
        return (self.classifier,)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        merged = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        top = merged.pop()
        for refine, upscale in zip(reversed(self.refines), reversed(self.upscales), strict=True):
            top = functional.interpolate(top, scale_factor=upscale, mode="bilinear", align_corners=False)
            top = refine(top + merged.pop())
        logits: Tensor = self.classifier(top)
        return logits


def _conv_bn_relu(inputs: int, outputs: int, kernel: int, *, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(_conv_bn_relu(channels, channels, 3, groups=channels), _conv_bn_relu(channels, channels, 1))


def _initialise(decoder: nn.Module, classifiers: Sequence[nn.Conv2d]) -> None:
    """Kaiming for what a ReLU follows; small classifiers, so that training starts near uniform probabilities."""
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for classifier in classifiers:
        nn.init.normal_(classifier.weight, std=0.01)
        if classifier.bias is not None:
            nn.init.zeros_(classifier.bias)
