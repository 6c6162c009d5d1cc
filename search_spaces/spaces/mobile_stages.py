"""Search space of mobile encoders: kernel, expansion, depth, width and squeeze-and-excitation of each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from search_spaces.candidate import Candidate, ParamValue
from search_spaces.dimensions import Categorical, Dimension
from search_spaces.networks.backbones import scale_channels
from search_spaces.networks.decoder_specs import DECODERS
from search_spaces.options import known_names, numbers, truths, whole_numbers
from search_spaces.spaces.encoder_decoder import decoder_names, enlarging_dimensions, output_stride, resize_modes
from search_spaces.spaces.pruned import LEARNING_RATE, PRUNE_RATIOS, RESOLUTIONS_PX, WEIGHT_DECAY, PrunedSpace

if TYPE_CHECKING:
    from search_spaces.networks.segmentation_net import SegmentationNet

ACTIVATIONS = ("relu", "hard_swish")
KERNELS = (3, 5, 7)
DEEPEST = 8


@dataclass(frozen=True)
class StageSpec:
    """Stride of a stage, and its channels at width 1."""

    stride: int
    channels: int


STAGES = (StageSpec(2, 24), StageSpec(2, 40), StageSpec(2, 80), StageSpec(1, 112), StageSpec(2, 160))
"""Stages after a stem and a depthwise-separable block at stride 2, with MobileNetV3's channels (arXiv 1905.02244)."""
STEM_CHANNELS = 16

_STAGE_KEYS = ("kernel", "expansion", "depth", "width", "se")


class MobileStagesSpace(PrunedSpace):
    """Search space of inverted-residual stages (arXiv 1801.04381), as MNasNet's (arXiv 1807.11626), with light decoders.

    Dimensions: ``decoder``, ``decoder_width``, ``activation``; for each stage N from 1 to 5 ``stageN_kernel``,
    ``stageN_expansion``, ``stageN_depth``, ``stageN_width``, ``stageN_se``; ``resolution``, ``prune_ratio``,
    ``learning_rate``, ``weight_decay``; and ``output_stride``, ``upsampling`` if their options are given.

    Args:
        kernels: kernel sizes of the depthwise convolutions: 3, 5 or 7.
        expansions: expansion ratios of the inverted residuals, 1 to 8.
        depths: blocks per stage, 1 to 8.
        widths: channel multipliers, of each stage and of the decoder.
        squeeze_excite: blocks without or with squeeze-and-excitation (arXiv 1709.01507).
        activations: ``relu`` or ``hard_swish``, for the whole encoder.
        decoders, resolutions_px, prune_ratios, learning_rate, weight_decay, output_strides, upsamplings: as in
            ``encoder_decoder``.

    Raises:
        UserError: an option is empty, out of range, or names something unknown.
    """

    name: ClassVar[str] = "mobile_stages"
    version: ClassVar[int] = 1
    architecture_params: ClassVar[tuple[str, ...]] = (
        *("decoder", "decoder_width", "activation"),
        *(f"stage{number}_{key}" for number in range(1, len(STAGES) + 1) for key in _STAGE_KEYS),
        *("resolution", "prune_ratio", "output_stride", "upsampling"),
    )

    def __init__(
        self,
        kernels: Sequence[int] = (3, 5),
        expansions: Sequence[int] = (2, 4, 6),
        depths: Sequence[int] = (1, 2, 3, 4),
        widths: Sequence[float] = (0.5, 0.75, 1.0, 1.25),
        squeeze_excite: Sequence[bool] = (False, True),
        activations: Sequence[str] = ACTIVATIONS,
        decoders: Sequence[str] | None = None,
        resolutions_px: Sequence[Sequence[int]] = RESOLUTIONS_PX,
        prune_ratios: Sequence[float] = PRUNE_RATIOS,
        learning_rate: Sequence[float] = LEARNING_RATE,
        weight_decay: Sequence[float] = WEIGHT_DECAY,
        output_strides: Sequence[int] | None = None,
        upsamplings: Sequence[str] | None = None,
    ) -> None:
        factors = numbers("widths", widths, low=0.125, high=4.0)
        choices: dict[str, tuple[ParamValue, ...]] = {
            "kernel": whole_numbers("kernels", kernels, KERNELS),
            "expansion": whole_numbers("expansions", expansions, range(1, 9)),
            "depth": whole_numbers("depths", depths, range(1, DEEPEST + 1)),
            "width": factors,
            "se": truths("squeeze_excite", squeeze_excite),
        }
        self.dimensions = (
            Categorical("decoder", decoder_names(decoders)),
            Categorical("decoder_width", factors),
            Categorical("activation", known_names("activations", activations, "activation", ACTIVATIONS)),
            *(
                Categorical(f"stage{number}_{key}", choices[key])
                for number in range(1, len(STAGES) + 1)
                for key in _STAGE_KEYS
            ),
            *self.common_dimensions(resolutions_px, prune_ratios, learning_rate, weight_decay),
            *enlarging_dimensions(output_strides, upsamplings),
        )

    def default_value(self, dimension: Dimension) -> ParamValue:
        preferred: dict[str, ParamValue] = {
            "decoder": "fpn",
            "activation": "relu",
            "upsampling": "bilinear",
            "decoder_width": 1.0,
            "kernel": 3,
            "expansion": 6,
            "depth": 3,
            "width": 1.0,
            "se": False,
        }
        key = dimension.name.partition("_")[2] if dimension.name.startswith("stage") else dimension.name
        return dimension.nearest(preferred[key]) if key in preferred else super().default_value(dimension)

    def resize_modes(self) -> frozenset[str]:
        return resize_modes(self.dimensions)

    def build(self, candidate: Candidate, num_classes: int, *, seed: int = 0) -> SegmentationNet:
        from search_spaces.networks.encoders import build_mobile_encoder
        from search_spaces.networks.segmentation_net import assemble

        self.check_origin(candidate)
        params = candidate.params
        decoder = DECODERS[str(params["decoder"])]
        stride = output_stride(candidate)
        indices, _ = decoder.features(stride)

        def make_encoder() -> Any:
            return build_mobile_encoder(
                stage_strings(candidate),
                indices,
                stem_channels=STEM_CHANNELS,
                activation=str(params["activation"]),
                output_stride=stride,
            )

        return assemble(
            make_encoder,
            decoder,
            float(params["decoder_width"]),
            num_classes,
            self.input_hw(candidate),
            seed=seed,
            output_stride=stride,
            upsampling=str(params.get("upsampling", "bilinear")),
        )


def stage_strings(candidate: Candidate) -> list[list[str]]:
    """Encode the stages in timm's block notation.

    ``ir_r3_k5_s2_e6_c40_se0.25`` is three inverted residuals with kernel 5, stride 2, expansion 6, 40 channels, and a
    squeeze-and-excitation reduction to a quarter of the block's input."""
    stages = [[f"ds_r1_k3_s1_c{STEM_CHANNELS}"]]
    for number, stage in enumerate(STAGES, start=1):
        kernel, expansion, depth, width, gated = (candidate.params[f"stage{number}_{key}"] for key in _STAGE_KEYS)
        channels = scale_channels(stage.channels, float(width))
        block = f"ir_r{depth}_k{kernel}_s{stage.stride}_e{expansion}_c{channels}"
        stages.append([f"{block}_se0.25" if gated else block])
    return stages
