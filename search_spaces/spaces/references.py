"""Search space of published networks, as baselines for a search with the same budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from search_spaces._common.references import resolve
from search_spaces.candidate import Candidate
from search_spaces.dimensions import Categorical
from search_spaces.options import known_names, numbers
from search_spaces.spaces.pruned import LEARNING_RATE, RESOLUTIONS_PX, WEIGHT_DECAY, PrunedSpace

if TYPE_CHECKING:
    from search_spaces.networks.segmentation_net import SegmentationNet


@dataclass(frozen=True)
class ReferenceSpec:
    """One reference network.

    Attributes:
        name: its name in a study's YAML.
        factory: ``"module:function"``, called with ``(width, num_classes)``; returns a backbone and a head.
        output_stride: input pixels per logit, along each side.
    """

    name: str
    factory: str
    output_stride: int


_NETWORKS = "search_spaces.networks.reference_networks"
_SPECS = (
    ReferenceSpec("fast_scnn", f"{_NETWORKS}.fast_scnn:fast_scnn", 8),
    ReferenceSpec("ddrnet23_slim", f"{_NETWORKS}.ddrnet:ddrnet23_slim", 8),
    ReferenceSpec("pidnet_s", f"{_NETWORKS}.pidnet:pidnet_s", 8),
    ReferenceSpec("unet", f"{_NETWORKS}.unet:unet", 1),
)
REFERENCES: dict[str, ReferenceSpec] = {spec.name: spec for spec in _SPECS}


class ReferencesSpace(PrunedSpace):
    """Search space of published networks, for comparison.

    Dimensions: ``family`` (the network), ``width`` (1 is as published), ``resolution``, ``prune_ratio``, ``learning_rate``,
    ``weight_decay``.

    Args:
        families: keys of ``REFERENCES``; all of them by default.
        widths: channel multipliers.
        resolutions_px: (height, width) of the input, multiples of 32.
        prune_ratios: ratios of pruned channels, in [0, 1).
        learning_rate: lowest and highest value, searched on a log scale.
        weight_decay: lowest and highest value, searched on a log scale.

    Raises:
        UserError: an option is empty, out of range, or names something unknown.
    """

    name: ClassVar[str] = "references"
    version: ClassVar[int] = 1
    architecture_params: ClassVar[tuple[str, ...]] = ("family", "width", "resolution", "prune_ratio")

    def __init__(
        self,
        families: Sequence[str] | None = None,
        widths: Sequence[float] = (1.0,),
        resolutions_px: Sequence[Sequence[int]] = RESOLUTIONS_PX,
        prune_ratios: Sequence[float] = (0.0,),
        learning_rate: Sequence[float] = LEARNING_RATE,
        weight_decay: Sequence[float] = WEIGHT_DECAY,
    ) -> None:
        self.dimensions = (
            Categorical("family", known_names("families", families, "reference network", list(REFERENCES))),
            Categorical("width", numbers("widths", widths, low=0.125, high=2.0)),
            *self.common_dimensions(resolutions_px, prune_ratios, learning_rate, weight_decay),
        )

    def operations_id(self, candidate: Candidate) -> str | None:
        """None: the pooling windows and grids of these networks do not scale with the image."""
        return None

    def build(self, candidate: Candidate, num_classes: int, *, seed: int = 0) -> SegmentationNet:
        from search_spaces.networks.segmentation_net import SegmentationNet, seeded

        self.check_origin(candidate)
        spec = REFERENCES[str(candidate.params["family"])]
        with seeded(seed, num_classes):
            backbone, head = resolve(spec.factory, "factory")(float(candidate.params["width"]), num_classes)
        return SegmentationNet(
            backbone,
            head,
            num_classes=num_classes,
            output_stride=spec.output_stride,
            input_hw=self.input_hw(candidate),
        )
