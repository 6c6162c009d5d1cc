"""Decoders as data: which encoder features each takes, and at which stride it answers (modules: ``decoders.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UPSAMPLINGS: Mapping[str, str | None] = {"bilinear": "linear", "transposed": None, "bicubic": "cubic"}
"""Upsampling method of a decoder to the ``mode`` of ONNX's Resize that it is exported as; None for a transposed convolution."""

ENCODER_STRIDES = (2, 4, 8, 16, 32)
"""Strides of the features that an encoder offers, finest first, before any is held back by dilation."""


@dataclass(frozen=True)
class DecoderSpec:
    """One decoder. It answers at the stride of the finest feature it takes.

    Attributes:
        name: what a study calls it.
        factory: ``"module:class"``, called with ``(encoder_channels, reductions, channels, num_classes)`` and keywords.
        reductions: strides of the encoder features it takes, finest first; stages beyond the last are not built.
        channels: its inner width at width 1; scaled with the encoder's.
        min_channels: below which the inner width does not fall.
        dilated_reductions: what it takes instead of ``reductions`` where the encoder's stride is held back; None for the same.
        keywords: further ones for ``factory``.
        upsamples: whether it enlarges features, so that ``factory`` takes ``upsampling``.
        by_default: whether a study that names no decoders tries it.
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
        """Positions in ``ENCODER_STRIDES`` of the features it takes from an encoder that ends at ``output_stride``, and the
        strides that they have there."""
        wanted = self.reductions
        if output_stride < ENCODER_STRIDES[-1] and self.dilated_reductions is not None:
            wanted = self.dilated_reductions
        indices = tuple(ENCODER_STRIDES.index(reduction) for reduction in wanted)
        return indices, tuple(min(reduction, output_stride) for reduction in wanted)


_DECODERS = "search_spaces.networks.decoders"
_DEEPLAB = "search_spaces.networks.deeplab"

# LR-ASPP ends at stride 16, as in its paper (by dilation there, by leaving the last stage out here): on CamVid, 96x128,
# 10 epochs, one seed, mIoU .356 against .288 at a stride-32 end (mobilenetv2), .391-.333 (v3_small), .329-.317 (lcnet),
# .389-.436 (resnet10t), and it is cheaper. Seeds differ by about .03. With an output stride of 16 or 8 it is the paper's.
_SPECS = (
    DecoderSpec("lraspp", f"{_DECODERS}:LRASPP", (8, 16), 128, 64, dilated_reductions=(8, 32), by_default=True),
    DecoderSpec("fpn", f"{_DECODERS}:LightFPN", (4, 8, 16, 32), 64, 32, by_default=True),
    DecoderSpec("fpn_s8", f"{_DECODERS}:LightFPN", (8, 16, 32), 64, 32),
    DecoderSpec("fpn_dense", f"{_DECODERS}:LightFPN", (4, 8, 16, 32), 64, 32, keywords={"depthwise": False}),
    DecoderSpec("unet", f"{_DECODERS}:UNetDecoder", (4, 8, 16, 32), 32, 16, keywords={"depthwise": False}),
    DecoderSpec("unet_dw", f"{_DECODERS}:UNetDecoder", (4, 8, 16, 32), 32, 16),
    DecoderSpec("unet_s2_dw", f"{_DECODERS}:UNetDecoder", (2, 4, 8, 16, 32), 16, 16),
    # The heads of the original project's baseline and its successor at their papers' width, and one for small devices.
    DecoderSpec("deeplabv3", f"{_DEEPLAB}:DeepLabV3", (32,), 256, 64, upsamples=False),
    DecoderSpec("deeplabv3plus", f"{_DEEPLAB}:DeepLabV3Plus", (4, 32), 256, 64, keywords={"depthwise": False}),
    DecoderSpec("deeplabv3plus_dw", f"{_DEEPLAB}:DeepLabV3Plus", (4, 32), 128, 32),
)

DECODERS: dict[str, DecoderSpec] = {spec.name: spec for spec in _SPECS}
