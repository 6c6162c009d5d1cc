"""A search space: plain convolutional networks, of which channels, blocks and dilation are searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import IntDistribution
from torch import nn

from paretoseg import NetworkSpace


def block(channels_in: int, channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    conv = nn.Conv2d(channels_in, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


class PlainSpace(NetworkSpace):
    dimensions = {"channels": IntDistribution(16, 64, step=16), "blocks": [1, 2, 4], "dilation": [1, 2]}
    prune_ratios = (0.0, 0.5)

    def build(self, params: Mapping[str, Any], num_classes: int) -> nn.Module:
        channels = params["channels"]
        stem = [block(3, channels, stride=2), block(channels, channels, stride=2)]
        body = [block(channels, channels, dilation=params["dilation"]) for _ in range(params["blocks"])]
        return nn.Sequential(*stem, *body, nn.Conv2d(channels, num_classes, 1))
