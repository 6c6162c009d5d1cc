"""Encoders: timm feature extractors of a family at any width and depth, and mobile encoders from timm's block notation."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import nn

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
    """timm's encoder with the features at ``indices`` of ``ENCODER_STRIDES``, its random weights from torch's global state.

    Raises:
        ValueError: a depth or output stride that the family does not have.
    """
    keywords = family.factory_keywords(width, depth)
    if output_stride != ENCODER_STRIDES[-1]:
        if not family.dilates:
            raise ValueError(f"family {family.name} has no output stride but 32, asked for {output_stride}")
        keywords["output_stride"] = output_stride
    factory = resolve(family.factory)
    encoder = factory(family.variant, pretrained=False, features_only=True, out_indices=indices, **keywords)
    drop_unused_stages(encoder)
    _centre_pools(encoder)
    return encoder


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


def drop_unused_stages(encoder: Any) -> None:
    """timm's EfficientNet-like feature extractors run every stage, also those after the last feature: cut them off."""
    stage_of_output = getattr(encoder, "_stage_out_idx", None)
    if stage_of_output is not None:
        encoder.blocks = encoder.blocks[: max(stage_of_output)]


def _centre_pools(encoder: nn.Module) -> None:
    """Where a stride was given up, timm pads a 2x2 average at run time to keep the size; one of 3x3 keeps it by itself."""
    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            if isinstance(child, AvgPool2dSame) and child.stride in (1, (1, 1)):
                setattr(parent, name, nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False))


def resolve(factory: str) -> Callable[..., Any]:
    """The object that ``"module:name"`` names."""
    module, _, function = factory.partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), function))
