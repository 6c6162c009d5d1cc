"""Encoder families as data; a new family is a new entry.

All are convolutional timm encoders that TensorRT 8.2 supports (opset 13; hard-swish is decomposed on export) and
for which channel removal is exact: the pruned network computes the same as the dense one with those channels zeroed.
GhostNet and RepGhost are excluded: half of a layer is rarely a multiple of 8 channels, and GhostNet's concatenations
couple channels in pairs, so that the pruned shape would depend on the weights. SEMNASNet and EfficientNet-B0 squeeze
to channel counts that are not multiples of 8 either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FamilySpec:
    """Arguments with which timm builds one encoder family at any width and depth.

    Attributes:
        name: its name in a study's YAML.
        factory: ``"module:function"``, called with ``variant`` and keywords. Most of timm's generators accept a width
            multiplier that ``timm.create_model`` does not pass on.
        variant: timm's model name at width 1.
        width_keyword: keyword of the width multiplier, or None.
        scaled_channels: keywords of channel counts, with their values at width 1.
        unrounded_channels: keywords of channel counts that timm multiplies by the width without rounding, with their
            values at width 1; passed such that the product is a multiple of 8.
        keywords: further keywords at every width.
        keywords_when_scaled: further keywords at widths other than 1; at width 1 the network must be timm's own, so
            that its weights fit.
        depth_keyword: keyword of the depth multiplier, or None.
        scaled_layers: blocks per stage at depth 1, if the factory has a keyword ``layers``.
        dilates: True if timm supports smaller output strides by dilation.
        by_default: True if it is searched by studies that name no families.
    """

    name: str
    factory: str
    variant: str
    width_keyword: str | None = None
    scaled_channels: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    unrounded_channels: Mapping[str, int] = field(default_factory=dict)
    keywords: Mapping[str, Any] = field(default_factory=dict)
    keywords_when_scaled: Mapping[str, Any] = field(default_factory=dict)
    depth_keyword: str | None = None
    scaled_layers: tuple[int, ...] = ()
    dilates: bool = True
    by_default: bool = True

    @property
    def has_depth(self) -> bool:
        """True if the family supports a depth multiplier."""
        return self.depth_keyword is not None or bool(self.scaled_layers)

    def factory_keywords(self, width: float, depth: float = 1.0) -> dict[str, Any]:
        """Keywords for ``factory`` at ``width`` and ``depth``; channel counts are multiples of 8, each stage has at least one block.

        Raises:
            ValueError: the family has no depth multiplier.
        """
        keywords: dict[str, Any] = dict(self.keywords)
        for keyword, channels in self.scaled_channels.items():
            if isinstance(channels, tuple):
                keywords[keyword] = tuple(scale_channels(count, width) for count in channels)
            else:
                keywords[keyword] = scale_channels(channels, width)
        for keyword, channels in self.unrounded_channels.items():
            keywords[keyword] = scale_channels(channels, width) / width
        if self.width_keyword is not None:
            keywords[self.width_keyword] = width
        if width != 1.0:
            keywords.update(self.keywords_when_scaled)
        if depth != 1.0:
            if not self.has_depth:
                raise ValueError(f"family {self.name} has no other depth than its own, asked for {depth}")
            if self.depth_keyword is not None:
                keywords[self.depth_keyword] = depth
            else:
                keywords["layers"] = tuple(max(1, int(count * depth + 0.5)) for count in self.scaled_layers)
        return keywords


def scale_channels(channels: int, width: float, *, multiple: int = 8, minimum: int = 8) -> int:
    """Round ``channels * width`` to the nearest ``multiple``, halves upwards, at least ``minimum``."""
    return max(minimum, int(channels * width / multiple + 0.5) * multiple)


_EFFICIENTNET = "timm.models.efficientnet"
_MOBILENETV3 = "timm.models.mobilenetv3"
_DEPTH = "depth_multiplier"

_SPECS = (
    FamilySpec(
        "mobilenetv1",
        f"{_EFFICIENTNET}:_gen_mobilenet_v1",
        "mobilenetv1_100",
        "channel_multiplier",
        depth_keyword=_DEPTH,
    ),
    FamilySpec(
        "mobilenetv2",
        f"{_EFFICIENTNET}:_gen_mobilenet_v2",
        "mobilenetv2_100",
        "channel_multiplier",
        depth_keyword=_DEPTH,
    ),
    FamilySpec(
        "mobilenetv3_small",
        f"{_MOBILENETV3}:_gen_mobilenet_v3",
        "mobilenetv3_small_100",
        "channel_multiplier",
        depth_keyword=_DEPTH,
    ),
    FamilySpec(
        "mobilenetv3_large",
        f"{_MOBILENETV3}:_gen_mobilenet_v3",
        "mobilenetv3_large_100",
        "channel_multiplier",
        depth_keyword=_DEPTH,
    ),
    FamilySpec(
        "mobilenetv4_conv_small", f"{_MOBILENETV3}:_gen_mobilenet_v4", "mobilenetv4_conv_small", "channel_multiplier"
    ),
    FamilySpec("mnasnet", f"{_EFFICIENTNET}:_gen_mnasnet_b1", "mnasnet_100", "channel_multiplier"),
    FamilySpec("lcnet", f"{_MOBILENETV3}:_gen_lcnet", "lcnet_100", "channel_multiplier"),
    FamilySpec(
        "efficientnet_lite0",
        f"{_EFFICIENTNET}:_gen_efficientnet_lite",
        "efficientnet_lite0",
        "channel_multiplier",
        depth_keyword=_DEPTH,
    ),
    FamilySpec(
        "resnet10t",
        "timm:create_model",
        "resnet10t",
        scaled_channels={"channels": (64, 128, 256, 512), "stem_width": 32},
        scaled_layers=(1, 1, 1, 1),
        # The first layer of its tiered stem has 3/4 of stem_width's channels: rarely a multiple of 8.
        keywords_when_scaled={"stem_type": "deep"},
    ),
    FamilySpec(
        "resnet18d",
        "timm:create_model",
        "resnet18d",
        scaled_channels={"channels": (64, 128, 256, 512), "stem_width": 32},
        scaled_layers=(2, 2, 2, 2),
    ),
    FamilySpec(
        "repvgg_a0",
        "timm:create_model",
        "repvgg_a0",
        "width_factor",
        unrounded_channels={"stem_chs": 48},
    ),
    FamilySpec("fbnetc", f"{_EFFICIENTNET}:_gen_fbnetc", "fbnetc_100", "channel_multiplier"),
    FamilySpec("spnasnet", f"{_EFFICIENTNET}:_gen_spnasnet", "spnasnet_100", "channel_multiplier"),
    FamilySpec(
        "mobilenetv4_conv_medium", f"{_MOBILENETV3}:_gen_mobilenet_v4", "mobilenetv4_conv_medium", "channel_multiplier"
    ),
    FamilySpec(
        "resnet26d",
        "timm:create_model",
        "resnet26d",
        scaled_channels={"channels": (64, 128, 256, 512), "stem_width": 32},
        scaled_layers=(2, 2, 2, 2),
    ),
    FamilySpec(
        "efficientnet_es",
        f"{_EFFICIENTNET}:_gen_efficientnet_edge",
        "efficientnet_es",
        "channel_multiplier",
        depth_keyword=_DEPTH,
    ),
    FamilySpec(
        "ese_vovnet19b_dw",
        "timm:create_model",
        "ese_vovnet19b_dw",
        scaled_channels={
            "stem_chs": (64, 64, 64),
            "stage_conv_chs": (128, 160, 192, 224),
            "stage_out_chs": (256, 512, 768, 1024),
        },
        dilates=False,
    ),
    # Google's own padding, which the weights published for TensorFlow need; timm computes it at run time, ONNX gets constants.
    FamilySpec(
        "tf_efficientnet_lite0",
        f"{_EFFICIENTNET}:_gen_efficientnet_lite",
        "tf_efficientnet_lite0",
        "channel_multiplier",
        keywords={"bn_eps": 1e-3, "pad_type": "same"},
        depth_keyword=_DEPTH,
        by_default=False,
    ),
    # Encoders of the original project's baseline, DeepLabV3; too large for the default of a study for small devices.
    FamilySpec(
        "resnet18",
        "timm:create_model",
        "resnet18",
        scaled_channels={"channels": (64, 128, 256, 512)},  # the stem has 64 channels at every width
        scaled_layers=(2, 2, 2, 2),
        by_default=False,
    ),
    FamilySpec(
        "resnet101",
        "timm:create_model",
        "resnet101",
        scaled_channels={"channels": (64, 128, 256, 512)},  # the stem has 64 channels at every width
        scaled_layers=(3, 4, 23, 3),
        by_default=False,
    ),
)

FAMILIES: dict[str, FamilySpec] = {spec.name: spec for spec in _SPECS}
