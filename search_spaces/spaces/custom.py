"""Custom search spaces: dimensions in Optuna's terms and a function that builds a network."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from search_spaces._common.errors import UserError
from search_spaces._common.references import check_arguments, parameters_of, resolve
from search_spaces.candidate import Candidate, ParamValue
from search_spaces.dimensions import Dimension, dimension_of
from search_spaces.space import SearchSpace
from search_spaces.spaces.pruned import LEARNING_RATE, RESOLUTIONS_PX, WEIGHT_DECAY, PrunedSpace

if TYPE_CHECKING:
    from torch import nn

    from search_spaces.networks.segmentation_net import SegmentationNet

_COMMON = ("resolutions_px", "prune_ratios", "learning_rate", "weight_decay")
_NOT_ARCHITECTURE = ("learning_rate", "weight_decay")


class NetworkSpace(ABC):
    """Base class of custom search spaces: defines dimensions and networks; everything else is derived.

    The image size (``resolution``), ``prune_ratio``, ``learning_rate`` and ``weight_decay`` become dimensions beside the space's
    own, unless it has dimensions of these names. The keys ``space.resolutions_px``,
    ``space.prune_ratios``, ``space.learning_rate`` and ``space.weight_decay`` of a study replace the attributes below.

    Attributes:
        dimensions: by name an ``optuna.distributions`` object, or a list of values. May be set in the constructor.
        defaults: values of the default network; without one, the first of a list or the middle of a range.
        name: stored with every candidate; the class's name unless it is set.
        version: increase it whenever the same parameters build another network: candidates of the old version are rejected.
        resolutions_px: (height, width) of the input, multiples of 32.
        prune_ratios: ratios of pruned channels, in [0, 1).
        learning_rate, weight_decay: lowest and highest value, searched on a log scale.
    """

    dimensions: Mapping[str, Any]
    defaults: Mapping[str, ParamValue] = {}
    name: str = ""
    version: int = 1
    resolutions_px: Sequence[Sequence[int]] = RESOLUTIONS_PX
    prune_ratios: Sequence[float] = (0.0,)
    learning_rate: Sequence[float] = LEARNING_RATE
    weight_decay: Sequence[float] = WEIGHT_DECAY

    @abstractmethod
    def build(self, params: Mapping[str, Any], num_classes: int) -> nn.Module:
        """Build the network of one point of the space.

        Args:
            params: a value of each architecture dimension, including ``resolution`` (``"96x128"``).
            num_classes: channels of the logits.

        Returns:
            A module that maps normalised float images (N, 3, H, W), H and W multiples of 32, to logits
            (N, num_classes, H / s, W / s), s an integer, or to a dict with the logits under ``out``. Pruning ignores the
            convolutions with ``num_classes`` outputs, or those listed in the module's attribute ``classifiers``. Torch's
            global generator is seeded for random weights.
        """


class CustomSpace(PrunedSpace):
    """Search space made from a `NetworkSpace`.

    Args:
        space: the custom space.
        options: values that replace its attributes ``resolutions_px``, ``prune_ratios``, ``learning_rate``, ``weight_decay``.

    Raises:
        UserError: the space has no dimensions, or one that is neither a distribution of Optuna nor a list.
    """

    name: ClassVar[str] = "custom"
    version: ClassVar[int] = 1
    architecture_params: ClassVar[tuple[str, ...]] = ()

    def __init__(self, space: NetworkSpace, options: Mapping[str, Any] | None = None) -> None:
        self._space = space
        self.name = space.name or type(space).__name__  # type: ignore[misc]
        self.version = space.version  # type: ignore[misc]
        given = getattr(space, "dimensions", None)
        if not isinstance(given, Mapping) or not given:
            raise UserError(
                f"the search space {self.name} needs an attribute dimensions, a dict such as "
                '{"channels": optuna.distributions.IntDistribution(8, 64)}, '
                f"but has {given!r}."
            )
        own = {name: dimension_of(name, value) for name, value in given.items()}
        values = {key: (options or {}).get(key, getattr(space, key)) for key in _COMMON}
        common = {axis.name: axis for axis in self.common_dimensions(**values)}
        self.dimensions = (*own.values(), *(axis for name, axis in common.items() if name not in own))
        self.architecture_params = (  # type: ignore[misc]
            *(name for name in own if name not in (*common, *_NOT_ARCHITECTURE)),
            "resolution",
            "prune_ratio",
        )

    def default_value(self, dimension: Dimension) -> ParamValue:
        if dimension.name in self._space.defaults:
            return dimension.nearest(self._space.defaults[dimension.name])
        common = ("resolution", "prune_ratio", *_NOT_ARCHITECTURE)
        return super().default_value(dimension) if dimension.name in common else dimension.default

    def operations_id(self, candidate: Candidate) -> str | None:
        """None: a custom network may depend on the image size in any way."""
        return None

    def build(self, candidate: Candidate, num_classes: int, *, seed: int = 0) -> SegmentationNet:
        """Build the network; see `SearchSpace.build`.

        Raises:
            UserError: the space's ``build`` returns no module, or a module that does not return logits.
        """
        from search_spaces.networks.custom import segmentation_net_of
        from search_spaces.networks.segmentation_net import seeded

        self.check_origin(candidate)
        params = {name: value for name, value in candidate.params.items() if name in self.architecture_params}
        with seeded(seed, num_classes):
            net = self._space.build(params, num_classes)
        return segmentation_net_of(net, num_classes, self.input_hw(candidate), f"{self.name}.build")


def custom_space(reference: str, options: Mapping[str, Any]) -> SearchSpace:
    """Make the search space that ``module:name`` refers to.

    Args:
        reference: a subclass of `NetworkSpace` or `SearchSpace`, a function that returns an instance of one, or an instance.
        options: arguments of the class or function, and of `CustomSpace`.

    Raises:
        UserError: the reference or an option is wrong; the message names it.
    """
    found, what = resolve(reference, "space.name"), f"search space {reference!r}"
    if isinstance(found, NetworkSpace | SearchSpace):
        made, own = copy.copy(found), dict[str, Any]()
        common = {} if isinstance(found, SearchSpace) else {key: options[key] for key in _COMMON if key in options}
        check_arguments(what, lambda: None, [key for key in options if key not in common])
    elif callable(found):
        whole = isinstance(found, type) and issubclass(found, SearchSpace)
        check_arguments(what, found, options, also=() if whole else _COMMON)
        own = {
            key: value for key, value in options.items() if whole or key not in _COMMON or key in parameters_of(found)
        }
        common = {key: value for key, value in options.items() if key not in own}
        made = found(**own)
    else:
        made = found
    if isinstance(made, NetworkSpace):
        return CustomSpace(made, common)
    if isinstance(made, SearchSpace):
        return made
    raise UserError(
        f"space.name is {reference!r}, which is, or gives, a {type(made).__name__}: it must be a subclass of "
        "paretoseg.NetworkSpace or paretoseg.SearchSpace, or a function that returns an instance of one."
    )
