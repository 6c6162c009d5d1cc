"""A mobile encoder from timm's block notation."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from search_spaces.networks.segmentation_net import drop_unused_stages
from search_spaces.networks.torchvision_compat import ensure_torchvision

ensure_torchvision()  # before anything imports timm

from timm.layers import get_act_layer  # noqa: E402
from timm.models._efficientnet_blocks import SqueezeExcite  # noqa: E402
from timm.models._efficientnet_builder import decode_arch_def, round_channels  # noqa: E402
from timm.models.efficientnet import EfficientNetFeatures  # noqa: E402


def build_mobile_encoder(
    stages: list[list[str]], indices: tuple[int, ...], *, stem_channels: int, activation: str, output_stride: int
) -> Any:
    """A feature extractor with the features at ``indices`` of ``ENCODER_STRIDES``.

    Gates squeeze to multiples of 8 channels and end in a hard sigmoid, as in MobileNetV3 (arXiv 1905.02244).

    Args:
        stages: blocks of each stage, see ``mobile_stages.stage_strings``.
    """
    gate = partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU, rd_round_fn=round_channels)
    encoder = EfficientNetFeatures(
        decode_arch_def(stages),
        out_indices=indices,
        stem_size=stem_channels,
        output_stride=output_stride,
        act_layer=get_act_layer(activation),
        norm_layer=nn.BatchNorm2d,
        se_layer=gate,
    )
    drop_unused_stages(encoder)
    return encoder
