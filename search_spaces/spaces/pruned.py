"""Base class of the spaces with input resolution, prune ratio, learning rate and weight decay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search_spaces.candidate import Candidate, ParamValue
from search_spaces.dimensions import Categorical, Dimension
from search_spaces.options import log_range, numbers, parse_resolution, resolutions
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from search_spaces.networks.segmentation_net import SegmentationNet

RESOLUTIONS_PX = ((96, 128), (128, 160), (160, 224), (192, 256))
PRUNE_RATIOS = (0.0, 0.25, 0.5)
LEARNING_RATE = (5e-4, 1e-2)
WEIGHT_DECAY = (1e-5, 1e-2)

_DEFAULTS = {"learning_rate": 3e-3, "weight_decay": 1e-4, "width": 1.0, "depth": 1.0, "output_stride": 32}
_SCALING = ("resolution", "prune_ratio")


class PrunedSpace(SearchSpace):
    """Search space with image size, prune ratio, learning rate and weight decay beside the dimensions of a subclass."""

    def common_dimensions(
        self,
        resolutions_px: Sequence[Sequence[int]],
        prune_ratios: Sequence[float],
        learning_rate: Sequence[float],
        weight_decay: Sequence[float],
    ) -> tuple[Dimension, ...]:
        """Make the dimensions ``resolution``, ``prune_ratio``, ``learning_rate`` and ``weight_decay``.

        Raises:
            UserError: an option is empty or out of range.
        """
        return (
            Categorical("resolution", resolutions(resolutions_px)),
            Categorical("prune_ratio", numbers("prune_ratios", prune_ratios, low=0.0, high=0.9)),
            log_range("learning_rate", learning_rate),
            log_range("weight_decay", weight_decay),
        )

    def default(self) -> Candidate:
        return self.candidate({dimension.name: self.default_value(dimension) for dimension in self.dimensions})

    def default_value(self, dimension: Dimension) -> ParamValue:
        """Value of the default candidate: the median image size, no pruning, width and depth as published."""
        if isinstance(dimension, Categorical) and dimension.name == "resolution":
            by_area = sorted(dimension.choices, key=lambda text: math.prod(parse_resolution(str(text))))
            return by_area[len(by_area) // 2]
        if isinstance(dimension, Categorical) and dimension.name == "prune_ratio":
            return min(dimension.choices, key=float)
        return dimension.nearest(_DEFAULTS.get(dimension.name, ""))

    def operations_id(self, candidate: Candidate) -> str | None:
        names = (name for name in self.architecture_params if name not in _SCALING and name in candidate.params)
        return ":".join(f"{name}={candidate.params[name]}" for name in names)

    def input_hw(self, candidate: Candidate) -> tuple[int, int]:
        return parse_resolution(str(candidate.params["resolution"]))

    def prune_ratio(self, candidate: Candidate) -> float:
        return float(candidate.params["prune_ratio"])

    def hyperparameters(self, candidate: Candidate) -> dict[str, float]:
        return {name: float(candidate.params[name]) for name in ("learning_rate", "weight_decay")}

    def prune(self, net: SegmentationNet, candidate: Candidate) -> SegmentationNet:
        from search_spaces.pruning.prune import prune_network

        return prune_network(net, self.prune_ratio(candidate))

    def build_pruned(self, candidate: Candidate, num_classes: int) -> SegmentationNet:
        return self.prune(self.build(candidate, num_classes), candidate)
