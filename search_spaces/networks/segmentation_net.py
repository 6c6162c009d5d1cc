"""The segmentation network of an encoder and a decoder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces._common.references import resolve
from search_spaces.networks.backbones import FamilySpec, scale_channels
from search_spaces.networks.decoder_specs import ENCODER_STRIDES, DecoderSpec
from search_spaces.networks.encoders import build_encoder


class SegmentationNet(nn.Module):
    """Encoder and decoder with logits at a fraction of the input's resolution.

    Upsampling to the input's size (``upsample_logits``) is not part of the network: a device may take the argmax at low
    resolution, and latency then measures the convolutions.

    Attributes:
        encoder: returns a list of features.
        decoder: maps the features to logits.
        num_classes: channels of the logits.
        output_stride: input pixels per logit along each side.
        input_hw: intended height and width in pixels; any multiple of 32 works.
        prune_ratio: ratio that it was pruned by; 0 before.
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
        """Compute logits (N, num_classes, H / output_stride, W / output_stride) of normalised float images (N, 3, H, W)."""
        logits: Tensor = self.decoder(self.encoder(images))
        return logits

    @property
    def classifiers(self) -> tuple[nn.Conv2d, ...]:
        """The layers whose output channels are the classes."""
        return cast("tuple[nn.Conv2d, ...]", self.decoder.classifiers)


def upsample_logits(logits: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize logits (N, C, h, w) bilinearly to (N, C, *hw), with half-pixel centres."""
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
    """Build a network on the CPU, initialised from ``seed``; the global random state is unchanged.

    Raises:
        ValueError: fewer than two classes, or the family does not support the depth or output stride.
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
    """Combine an encoder with a decoder; see ``build_network``.

    Args:
        make_encoder: returns a timm feature extractor with the decoder's input features at this output stride.
    """
    _, reductions = decoder.features(output_stride)
    keywords = {**decoder.keywords, "upsampling": upsampling} if decoder.upsamples else decoder.keywords
    with seeded(seed, num_classes):
        encoder = make_encoder()
        if tuple(encoder.feature_info.reduction()) != reductions:
            raise RuntimeError(f"the encoder has features at {encoder.feature_info.reduction()}, wanted {reductions}")
        channels = scale_channels(decoder.channels, decoder_width, minimum=decoder.min_channels)
        head = resolve(decoder.factory, "factory")(
            encoder.feature_info.channels(), reductions, channels, num_classes, **keywords
        )
    return SegmentationNet(encoder, head, num_classes=num_classes, output_stride=reductions[0], input_hw=input_hw)


@contextmanager
def seeded(seed: int, num_classes: int) -> Iterator[None]:
    """Context with torch's global generator seeded; its state is restored afterwards.

    Raises:
        ValueError: fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"a segmentation network needs at least 2 classes, got {num_classes}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def reparameterize(net: SegmentationNet) -> SegmentationNet:
    """Copy ``net`` in evaluation mode, with training-time branches (RepVGG) merged into single convolutions.

    Equivalent to ``net`` in evaluation mode up to rounding; export and latency measurement use this form.
    """
    from timm.utils.model import reparameterize_model

    merged: SegmentationNet = reparameterize_model(copy.deepcopy(net).eval(), inplace=True)
    return merged
