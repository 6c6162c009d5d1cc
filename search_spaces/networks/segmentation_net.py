"""From a family, a width and a decoder to a segmentation network."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.networks.backbones import FamilySpec, scale_channels
from search_spaces.networks.decoder_specs import ENCODER_STRIDES, DecoderSpec
from search_spaces.networks.torchvision_compat import ensure_torchvision

ensure_torchvision()  # before anything imports timm


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
    family: FamilySpec,
    decoder: DecoderSpec,
    width: float,
    num_classes: int,
    input_hw: tuple[int, int],
    *,
    seed: int,
    depth: float = 1.0,
    output_stride: int = ENCODER_STRIDES[-1],
    upsampling: str = "bilinear",
) -> SegmentationNet:
    """A network on the CPU, initialised from ``seed`` without touching the global random state.

    Raises:
        ValueError: fewer than two classes, or a depth or output stride that the family does not have.
    """
    indices, _ = decoder.features(output_stride)
    return assemble(
        lambda: build_encoder(family, width, indices, depth=depth, output_stride=output_stride),
        decoder,
        width,
        num_classes,
        input_hw,
        seed=seed,
        output_stride=output_stride,
        upsampling=upsampling,
    )


def assemble(
    make_encoder: Callable[[], Any],
    decoder: DecoderSpec,
    decoder_width: float,
    num_classes: int,
    input_hw: tuple[int, int],
    *,
    seed: int,
    output_stride: int,
    upsampling: str,
) -> SegmentationNet:
    """An encoder with the decoder for its features; see ``build_network``.

    Args:
        make_encoder: gives a timm feature extractor with the features that the decoder wants at this output stride.
    """
    _, reductions = decoder.features(output_stride)
    keywords = {**decoder.keywords, "upsampling": upsampling} if decoder.upsamples else decoder.keywords
    with seeded(seed, num_classes):
        encoder = make_encoder()
        if tuple(encoder.feature_info.reduction()) != reductions:
            raise RuntimeError(f"the encoder has features at {encoder.feature_info.reduction()}, wanted {reductions}")
        channels = scale_channels(decoder.channels, decoder_width, minimum=decoder.min_channels)
        head = resolve(decoder.factory)(encoder.feature_info.channels(), reductions, channels, num_classes, **keywords)
    return SegmentationNet(encoder, head, num_classes=num_classes, output_stride=reductions[0], input_hw=input_hw)


@contextmanager
def seeded(seed: int, num_classes: int) -> Iterator[None]:
    """Random weights depend on ``seed`` alone within; the global random state is put back.

    Raises:
        ValueError: fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"a segmentation network needs at least 2 classes, got {num_classes}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def deployable(net: SegmentationNet) -> SegmentationNet:
    """A copy in evaluation mode with training-time branches (RepVGG) merged into single convolutions.

    Computes what ``net`` does in evaluation mode, to rounding; this is what should be exported and timed.
    """
    from timm.utils.model import reparameterize_model

    merged: SegmentationNet = reparameterize_model(copy.deepcopy(net).eval(), inplace=True)
    return merged


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


def drop_unused_stages(encoder: Any) -> None:
    """timm's EfficientNet-like feature extractors run every stage, also those after the last feature: cut them off."""
    stage_of_output = getattr(encoder, "_stage_out_idx", None)
    if stage_of_output is not None:
        encoder.blocks = encoder.blocks[: max(stage_of_output)]


def _centre_pools(encoder: nn.Module) -> None:
    """Where a stride was given up, timm pads a 2x2 average at run time to keep the size; one of 3x3 keeps it by itself."""
    from timm.layers import AvgPool2dSame

    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            if isinstance(child, AvgPool2dSame) and child.stride in (1, (1, 1)):
                setattr(parent, name, nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False))


def resolve(factory: str) -> Callable[..., Any]:
    """The object that ``"module:name"`` names."""
    module, _, function = factory.partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), function))
