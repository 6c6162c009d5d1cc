"""From a family, a width and a decoder to a segmentation network."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.decoder_specs import DecoderSpec
from search_spaces.families import FamilySpec, scale_channels
from search_spaces.torchvision_compat import ensure_torchvision

ensure_torchvision()  # before anything imports timm

TIMM_REDUCTIONS = (2, 4, 8, 16, 32)  # strides of timm's feature indices 0 to 4 in every family of ours


class SegmentationNet(nn.Module):
    """Encoder, then decoder, then logits at a fraction of the input's resolution.

    Upsampling is left outside (``upsample_logits``): a device that only needs the class map can take the argmax at low
    resolution, and the time of the network is then the time of its convolutions.

    Attributes:
        encoder: gives a list of features; decoder: turns them into logits.
        num_classes: channels of the logits.
        output_stride: input pixels per logit along each side.
        input_hw: height and width in pixels that it is meant for; any multiple of 32 works.
        prune_ratio: what it has been pruned by so far; 0 until then.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, num_classes: int, output_stride: int, input_hw: tuple[int, int]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.num_classes = num_classes
        self.output_stride = output_stride
        self.input_hw = input_hw
        self.prune_ratio = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float images (N, 3, H, W) to logits (N, num_classes, H / output_stride, W / output_stride)."""
        logits: Tensor = self.decoder(self.encoder(images))
        return logits

    @property
    def classifiers(self) -> tuple[nn.Conv2d, ...]:
        """The layers whose output channels are the classes."""
        return cast("tuple[nn.Conv2d, ...]", self.decoder.classifiers)


def upsample_logits(logits: Tensor, hw: tuple[int, int]) -> Tensor:
    """Bilinear resize of logits (N, C, h, w) to (N, C, *hw), with pixel centres aligned as areas (half-pixel)."""
    if logits.shape[-2:] == torch.Size(hw):
        return logits
    return functional.interpolate(logits, size=hw, mode="bilinear", align_corners=False)


def build_network(
    family: FamilySpec, decoder: DecoderSpec, width: float, num_classes: int, input_hw: tuple[int, int], *, seed: int
) -> SegmentationNet:
    """A network on the CPU, initialised from ``seed`` without touching the global random state.

    Raises:
        ValueError: fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"a segmentation network needs at least 2 classes, got {num_classes}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        encoder = build_encoder(family, width, decoder.reductions)
        channels = scale_channels(decoder.channels, width, minimum=decoder.min_channels)
        head = _resolve(decoder.factory)(encoder.feature_info.channels(), decoder.reductions, channels, num_classes)
        return SegmentationNet(
            encoder, head, num_classes=num_classes, output_stride=decoder.output_stride, input_hw=input_hw
        )


def deployable(net: SegmentationNet) -> SegmentationNet:
    """A copy in evaluation mode with training-time branches (RepVGG) merged into single convolutions.

    Computes what ``net`` does in evaluation mode, to rounding; this is what should be exported and timed.
    """
    from timm.utils.model import reparameterize_model

    merged: SegmentationNet = reparameterize_model(copy.deepcopy(net).eval(), inplace=True)
    return merged


def build_encoder(family: FamilySpec, width: float, reductions: tuple[int, ...]) -> Any:
    """timm's encoder with features at ``reductions``, its random weights from torch's global random state."""
    indices = tuple(TIMM_REDUCTIONS.index(reduction) for reduction in reductions)
    factory = _resolve(family.factory)
    encoder = factory(
        family.variant, pretrained=False, features_only=True, out_indices=indices, **family.factory_keywords(width)
    )
    if tuple(encoder.feature_info.reduction()) != reductions:
        raise RuntimeError(f"family {family.name}: features at {encoder.feature_info.reduction()}, wanted {reductions}")
    _drop_unused_stages(encoder)
    return encoder


def _drop_unused_stages(encoder: Any) -> None:
    """timm's EfficientNet-like feature extractors run every stage, also those after the last feature: cut them off."""
    stage_of_output = getattr(encoder, "_stage_out_idx", None)
    if stage_of_output is not None:
        encoder.blocks = encoder.blocks[: max(stage_of_output)]


def _resolve(factory: str) -> Callable[..., Any]:
    module, _, function = factory.partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), function))
