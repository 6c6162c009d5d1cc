"""Decoders as data: their encoder features and output strides (modules: ``decoders.py``, ``deeplab.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UPSAMPLINGS: Mapping[str, str | None] = {"bilinear": "linear", "transposed": None, "bicubic": "cubic"}
"""Upsampling method of a decoder to the ``mode`` of ONNX's Resize that it is exported as; None for a transposed convolution."""

ENCODER_STRIDES = (2, 4, 8, 16, 32)
"""Strides of an encoder's features without dilation, finest first."""


@dataclass(frozen=True)
class DecoderSpec:
    """Description of a decoder. The stride of its logits is that of its finest input feature.

    Attributes:
        name: its name in a study's YAML.
        factory: ``"module:class"``, called with ``(encoder_channels, reductions, channels, num_classes)`` and keywords.
        reductions: strides of its input features, finest first; encoder stages beyond the last are not built.
        channels: inner channels at width 1; scaled with the encoder's width.
        min_channels: lower bound of the inner channels.
        dilated_reductions: replaces ``reductions`` for encoders with an output stride below 32; None: the same.
        keywords: further keywords for ``factory``.
        upsamples: True if it upsamples features: ``factory`` has the keyword ``upsampling``.
        by_default: True if it is searched by studies that name no decoders.
    """

    name: str
    factory: str
    reductions: tuple[int, ...]
    channels: int
    min_channels: int
    dilated_reductions: tuple[int, ...] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    upsamples: bool = True
    by_default: bool = False

    def features(self, output_stride: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Input features for an encoder with ``output_stride``: their indices in ``ENCODER_STRIDES``, and their strides."""
        wanted = self.reductions
        if output_stride < ENCODER_STRIDES[-1] and self.dilated_reductions is not None:
            wanted = self.dilated_reductions
        indices = tuple(ENCODER_STRIDES.index(reduction) for reduction in wanted)
        return indices, tuple(min(reduction, output_stride) for reduction in wanted)


_DECODERS = "search_spaces.networks.decoders"
_DEEPLAB = "search_spaces.networks.deeplab"

# LR-ASPP uses stride 16 as its coarsest feature, as in its paper (there by dilation, here by omitting the last stage). CamVid,
# 96x128, 10 epochs, one seed, mIoU with stride 16 / stride 32: .356/.288 (mobilenetv2), .391/.333 (v3_small), .329/.317
# (lcnet), .389/.436 (resnet10t), at lower cost; the spread between seeds is about .03. With output stride 16 or 8: as published.
_SPECS = (
    DecoderSpec("lraspp", f"{_DECODERS}:LRASPP", (8, 16), 128, 64, dilated_reductions=(8, 32), by_default=True),
    DecoderSpec("fpn", f"{_DECODERS}:LightFPN", (4, 8, 16, 32), 64, 32, by_default=True),
    DecoderSpec("fpn_s8", f"{_DECODERS}:LightFPN", (8, 16, 32), 64, 32),
    DecoderSpec("fpn_dense", f"{_DECODERS}:LightFPN", (4, 8, 16, 32), 64, 32, keywords={"depthwise": False}),
    DecoderSpec("unet", f"{_DECODERS}:UNetDecoder", (4, 8, 16, 32), 32, 16, keywords={"depthwise": False}),
    DecoderSpec("unet_dw", f"{_DECODERS}:UNetDecoder", (4, 8, 16, 32), 32, 16),
    DecoderSpec("unet_s2_dw", f"{_DECODERS}:UNetDecoder", (2, 4, 8, 16, 32), 16, 16),
    # The original project's baseline head and its successor at their published width, and a light variant.
    DecoderSpec("deeplabv3", f"{_DEEPLAB}:DeepLabV3", (32,), 256, 64, upsamples=False),
    DecoderSpec("deeplabv3plus", f"{_DEEPLAB}:DeepLabV3Plus", (4, 32), 256, 64, keywords={"depthwise": False}),
    DecoderSpec("deeplabv3plus_dw", f"{_DEEPLAB}:DeepLabV3Plus", (4, 32), 128, 32),
)

DECODERS: dict[str, DecoderSpec] = {spec.name: spec for spec in _SPECS}
