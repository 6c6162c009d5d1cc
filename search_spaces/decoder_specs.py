"""Decoders as data: which encoder features each takes, and at which stride it answers (modules: ``decoders.py``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecoderSpec:
    """One decoder.

    Attributes:
        name: what a study calls it.
        factory: ``"module:class"``, called with ``(encoder_channels, reductions, channels, num_classes)``.
        reductions: strides of the encoder features it takes, finest first; stages beyond the last are not built.
        output_stride: input pixels per logit, along each side.
        channels: its inner width at width 1; scaled with the encoder's.
        min_channels: below which the inner width does not fall.
    """

    name: str
    factory: str
    reductions: tuple[int, ...]
    output_stride: int
    channels: int
    min_channels: int


# LR-ASPP ends at stride 16, as in its paper (by dilation there, by leaving the last stage out here): on CamVid, 96x128,
# 10 epochs, one seed, mIoU .356 against .288 at a stride-32 end (mobilenetv2), .391-.333 (v3_small), .329-.317 (lcnet),
# .389-.436 (resnet10t), and it is cheaper. Seeds differ by about .03.
_SPECS = (
    DecoderSpec("lraspp", "search_spaces.decoders:LRASPP", (8, 16), 8, channels=128, min_channels=64),
    DecoderSpec("fpn", "search_spaces.decoders:LightFPN", (4, 8, 16, 32), 4, channels=64, min_channels=32),
)

DECODERS: dict[str, DecoderSpec] = {spec.name: spec for spec in _SPECS}
