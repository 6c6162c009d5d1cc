"""Encoders: timm feature extractors of a family at any width and depth, and mobile encoders from timm's block notation."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from search_spaces._common.references import resolve
from search_spaces.networks.backbones import FamilySpec
from search_spaces.networks.decoder_specs import ENCODER_STRIDES
from search_spaces.networks.torchvision_compat import ensure_torchvision

ensure_torchvision()  # before anything imports timm

from timm.layers import AvgPool2dSame, get_act_layer  # noqa: E402
from timm.models._efficientnet_blocks import SqueezeExcite  # noqa: E402
from timm.models._efficientnet_builder import decode_arch_def, round_channels  # noqa: E402
from timm.models.efficientnet import EfficientNetFeatures  # noqa: E402


def build_encoder(
    family: FamilySpec,
    width: float,
    indices: tuple[int, ...],
    *,
    depth: float = 1.0,
    output_stride: int = ENCODER_STRIDES[-1],
) -> Any:
    """Build timm's encoder with the features at ``indices`` of ``ENCODER_STRIDES``, initialised from torch's global generator.

    Raises:
        ValueError: the family does not support the depth or output stride.
    """
    keywords = family.factory_keywords(width, depth)
    if output_stride != ENCODER_STRIDES[-1]:
        if not family.dilates:
            raise ValueError(f"family {family.name} has no output stride but 32, asked for {output_stride}")
        keywords["output_stride"] = output_stride
    factory = resolve(family.factory, "factory")
    encoder = factory(family.variant, pretrained=False, features_only=True, out_indices=indices, **keywords)
    drop_unused_stages(encoder)
    _centre_pools(encoder)
    return encoder


def build_mobile_encoder(
    stages: list[list[str]], indices: tuple[int, ...], *, stem_channels: int, activation: str, output_stride: int
) -> Any:
    """Build a feature extractor with the features at ``indices`` of ``ENCODER_STRIDES`` from timm's block notation.

    Squeeze-and-excitation reduces to multiples of 8 channels and ends in a hard sigmoid, as in MobileNetV3 (arXiv 1905.02244).

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


def drop_unused_stages(encoder: Any) -> None:
    """Remove the stages after the last feature, which timm's EfficientNet-like feature extractors would compute."""
    stage_of_output = getattr(encoder, "_stage_out_idx", None)
    if stage_of_output is not None:
        encoder.blocks = encoder.blocks[: max(stage_of_output)]


def _centre_pools(encoder: nn.Module) -> None:
    """Replace timm's stride-1 2x2 average pools, padded at run time in dilated encoders, by 3x3 pools with static padding."""
    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            if isinstance(child, AvgPool2dSame) and child.stride in (1, (1, 1)):
                setattr(parent, name, nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False))
