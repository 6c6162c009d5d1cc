"""Search space of timm encoders x decoders x width x input resolution x prune ratio x training hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate, ParamValue
from search_spaces.dimensions import Categorical, Dimension
from search_spaces.networks.backbones import FAMILIES, FamilySpec
from search_spaces.networks.decoder_specs import DECODERS, ENCODER_STRIDES, UPSAMPLINGS
from search_spaces.options import Numbers, known_names, number_dimension, parse_resolution, whole_numbers
from search_spaces.spaces.pruned import LEARNING_RATE, PRUNE_RATIOS, RESOLUTIONS_PX, WEIGHT_DECAY, PrunedSpace

if TYPE_CHECKING:
    from search_spaces.networks.segmentation_net import SegmentationNet

__all__ = ["EncoderDecoderSpace", "parse_resolution"]

OUTPUT_STRIDES = (8, 16, 32)


class EncoderDecoderSpace(PrunedSpace):
    """Search space with timm encoders and light decoders.

    Dimensions: ``family``, ``decoder``, ``width``, ``resolution`` ("HxW" in pixels), ``prune_ratio``, ``learning_rate``,
    ``weight_decay``; and ``depth``, ``output_stride``, ``upsampling`` if their options are given.

    Args:
        families: encoder families, keys of ``FAMILIES``; by default those for small devices that support the other options.
        decoders: keys of ``DECODERS``; ``lraspp`` and ``fpn`` by default.
        widths: channel multipliers: a list, or a range ``low``, ``high`` with optional ``step``.
        resolutions_px: (height, width) of the input, multiples of 32.
        prune_ratios: ratios of pruned channels, in [0, 1).
        learning_rate: lowest and highest value, searched on a log scale.
        weight_decay: lowest and highest value, searched on a log scale.
        depths: multipliers of the blocks per stage, for families with variable depth; 1 without this option.
        output_strides: output strides of the encoder: 8 or 16 (by dilation) or 32; 32 without this option.
        upsamplings: upsampling methods of the decoder, keys of ``UPSAMPLINGS``; bilinear without this option.

    Raises:
        UserError: an option is empty or out of range, names something unknown, or is not supported by a family.
    """

    name: ClassVar[str] = "encoder_decoder"
    version: ClassVar[int] = 1
    architecture_params: ClassVar[tuple[str, ...]] = (
        *("family", "decoder", "width", "resolution", "prune_ratio"),
        *("depth", "output_stride", "upsampling"),
    )

    def __init__(
        self,
        families: Sequence[str] | None = None,
        decoders: Sequence[str] | None = None,
        widths: Numbers = (0.25, 0.5, 0.75, 1.0),
        resolutions_px: Sequence[Sequence[int]] = RESOLUTIONS_PX,
        prune_ratios: Sequence[float] = PRUNE_RATIOS,
        learning_rate: Sequence[float] = LEARNING_RATE,
        weight_decay: Sequence[float] = WEIGHT_DECAY,
        depths: Numbers | None = None,
        output_strides: Sequence[int] | None = None,
        upsamplings: Sequence[str] | None = None,
    ) -> None:
        self.dimensions = (
            Categorical("family", _families(families, depths, output_strides)),
            Categorical("decoder", decoder_names(decoders)),
            number_dimension("width", "widths", widths, low=0.125, high=2.0),
            *self.common_dimensions(resolutions_px, prune_ratios, learning_rate, weight_decay),
            *([number_dimension("depth", "depths", depths, low=0.25, high=4.0)] if depths is not None else []),
            *enlarging_dimensions(output_strides, upsamplings),
        )

    def default_value(self, dimension: Dimension) -> ParamValue:
        preferred = {"family": "mobilenetv2", "decoder": "fpn", "upsampling": "bilinear"}.get(dimension.name)
        return super().default_value(dimension) if preferred is None else dimension.nearest(preferred)

    def resize_modes(self) -> frozenset[str]:
        return resize_modes(self.dimensions)

    def build(self, candidate: Candidate, num_classes: int, *, seed: int = 0) -> SegmentationNet:
        from search_spaces.networks.segmentation_net import build_network

        self.check_origin(candidate)
        params = candidate.params
        return build_network(
            FAMILIES[str(params["family"])],
            DECODERS[str(params["decoder"])],
            float(params["width"]),
            num_classes,
            self.input_hw(candidate),
            seed=seed,
            depth=_depth(candidate),
            output_stride=output_stride(candidate),
            upsampling=str(params.get("upsampling", "bilinear")),
        )

    def load_pretrained(self, net: SegmentationNet, candidate: Candidate, source: str) -> str:
        from search_spaces.pretrained import load_pretrained

        params = candidate.params
        indices, _ = DECODERS[str(params["decoder"])].features(output_stride(candidate))
        family = FAMILIES[str(params["family"])]
        return load_pretrained(net, family, float(params["width"]), indices, source, depth=_depth(candidate))


def decoder_names(given: Sequence[str] | None) -> tuple[str, ...]:
    """Check decoder names; None stands for the default ones.

    Raises:
        UserError: one is unknown or a duplicate.
    """
    default = [name for name, spec in DECODERS.items() if spec.by_default]
    return known_names("decoders", default if given is None else given, "decoder", list(DECODERS))


def enlarging_dimensions(
    output_strides: Sequence[int] | None, upsamplings: Sequence[str] | None
) -> tuple[Dimension, ...]:
    """Make the dimensions ``output_stride`` and ``upsampling`` if their options are given.

    Raises:
        UserError: an option is empty or has an unknown value.
    """
    axes: list[Dimension] = []
    if output_strides is not None:
        axes.append(Categorical("output_stride", whole_numbers("output_strides", output_strides, OUTPUT_STRIDES)))
    if upsamplings is not None:
        names = known_names("upsamplings", upsamplings, "upsampling", list(UPSAMPLINGS))
        axes.append(Categorical("upsampling", names))
    return tuple(axes)


def resize_modes(dimensions: Sequence[Dimension]) -> frozenset[str]:
    """Modes of ONNX's Resize in the networks of a space with these dimensions."""
    chosen: Sequence[object] = ("bilinear",)
    for dimension in dimensions:
        if isinstance(dimension, Categorical) and dimension.name == "upsampling":
            chosen = dimension.choices
    return frozenset(mode for name in chosen if (mode := UPSAMPLINGS[str(name)]) is not None)


def output_stride(candidate: Candidate) -> int:
    """Output stride of the candidate's encoder."""
    return int(candidate.params.get("output_stride", ENCODER_STRIDES[-1]))


def _depth(candidate: Candidate) -> float:
    return float(candidate.params.get("depth", 1.0))


def _families(
    given: Sequence[str] | None, depths: Numbers | None, output_strides: Sequence[int] | None
) -> tuple[str, ...]:
    able = [name for name, spec in FAMILIES.items() if spec.by_default and not _lacking(spec, depths, output_strides)]
    names = known_names("families", able if given is None else given, "encoder family", list(FAMILIES))
    for name in names:
        lacking = _lacking(FAMILIES[name], depths, output_strides)
        if lacking:
            raise UserError(f"encoder family {name!r} has no other {lacking}; leave out the family, or that option.")
    return names


def _lacking(spec: FamilySpec, depths: Numbers | None, output_strides: Sequence[int] | None) -> str | None:
    """Return the requested dimension that ``spec`` does not support, with its option, for an error; None if it supports all."""
    if depths is not None and not spec.has_depth and list(depths) != [1]:
        return "depth than its own (space.depths)"
    if output_strides is not None and not spec.dilates and list(output_strides) != [32]:
        return "output stride than 32 (space.output_strides)"
    return None
