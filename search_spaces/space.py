"""Base class of search spaces."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate, ParamValue
from search_spaces.dimensions import Dimension, Suggester

if TYPE_CHECKING:
    import numpy as np

    from search_spaces.networks.segmentation_net import SegmentationNet


class SearchSpace(ABC):
    """A set of candidates, and the networks they describe.

    Attributes:
        name: key in ``search_spaces.SPACES``.
        version: part of every candidate's id; increased whenever the same params would build another network.
        architecture_params: names of all dimensions of the architecture (not of training), including those that options switch off.
        dimensions: in the order in which they are sampled.
        added_dimensions: ``precision`` and ``training.KEY``, added by a study; they do not change the architecture.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    architecture_params: ClassVar[tuple[str, ...]]
    dimensions: tuple[Dimension, ...]
    added_dimensions: tuple[Dimension, ...] = ()

    def suggest(self, trial: Suggester) -> Candidate:
        """Suggest a candidate for an Optuna trial. The same trial always gives an equal candidate."""
        axes = (*self.dimensions, *self.added_dimensions)
        return self.candidate({dimension.name: dimension.suggest(trial) for dimension in axes})

    def sample(self, rng: np.random.Generator) -> Candidate:
        """Draw a candidate uniformly at random; deterministic for a given generator state."""
        axes = (*self.dimensions, *self.added_dimensions)
        return self.candidate({dimension.name: dimension.sample(rng) for dimension in axes})

    def candidate(self, params: Mapping[str, ParamValue]) -> Candidate:
        """Make the candidate with exactly these params; added dimensions that are missing take their default.

        Raises:
            ValueError: a dimension is missing or unknown, or a value is not one of its dimension.
        """
        params = {**{axis.name: axis.default for axis in self.added_dimensions}, **params}
        axes = (*self.dimensions, *self.added_dimensions)
        wanted = [dimension.name for dimension in axes]
        if set(params) != set(wanted):
            raise ValueError(f"space {self.name!r} needs params {wanted}, got {sorted(params)}")
        for dimension in axes:
            dimension.check(params[dimension.name])
        values = {dimension.name: dimension.canonical(params[dimension.name]) for dimension in axes}
        return Candidate(self.name, self.version, values)

    @property
    def architecture_dimensions(self) -> tuple[str, ...]:
        """Names of the architecture dimensions of this space, the most important first."""
        offered = {dimension.name for dimension in self.dimensions}
        return tuple(name for name in self.architecture_params if name in offered)

    def architecture_id(self, candidate: Candidate) -> str:
        """Hash (16 hex digits) of the architecture params; candidates that differ only in training share it."""
        self.check_origin(candidate)
        params = {name: candidate.params[name] for name in self.architecture_params if name in candidate.params}
        text = json.dumps([self.name, self.version, params], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def operations_id(self, candidate: Candidate) -> str | None:
        """Key of the candidates whose networks differ only in image size and pruned channels, or None.

        The operations of one of them are those of all. None by default: a space has to guarantee it.
        """
        return None

    def check_origin(self, candidate: Candidate) -> None:
        """Raise ``UserError`` for a candidate of another space, or of another version of this one."""
        if (candidate.space, candidate.space_version) != (self.name, self.version):
            raise UserError(
                f"candidate {candidate.id} belongs to search space {candidate.space!r} version "
                f"{candidate.space_version}, but this study uses {self.name!r} version {self.version}; "
                "start a study under a new name, or use the release that made the old one."
            )

    def resize_modes(self) -> frozenset[str]:
        """Modes of ONNX's Resize that the networks of this space may contain."""
        return frozenset({"linear"})

    @abstractmethod
    def default(self) -> Candidate:
        """The candidate that a practitioner would train without a search."""

    @abstractmethod
    def input_hw(self, candidate: Candidate) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""

    @abstractmethod
    def prune_ratio(self, candidate: Candidate) -> float:
        """Ratio of pruned channels in each layer, in [0, 1)."""

    @abstractmethod
    def hyperparameters(self, candidate: Candidate) -> dict[str, float]:
        """Training hyperparameters: ``learning_rate`` and ``weight_decay`` at least."""

    @abstractmethod
    def build(self, candidate: Candidate, num_classes: int, *, seed: int = 0) -> SegmentationNet:
        """Build the network before pruning, on the CPU in training mode, initialised at random from ``seed`` alone.

        Torch's global random state is restored.
        """

    def load_pretrained(self, net: SegmentationNet, candidate: Candidate, source: str) -> str:
        """Replace the random weights of an unpruned ``net`` by pretrained ones; returns a description of them.

        Raises:
            UserError: the space has no pretrained weights, or the source cannot be used.
        """
        if source == "none":
            return "random"
        raise UserError(f"the search space {self.name} takes no pretrained weights; set training.weights to none.")

    @abstractmethod
    def prune(self, net: SegmentationNet, candidate: Candidate) -> SegmentationNet:
        """Prune a network made by ``build`` in place, least important channels first.

        The resulting shape depends on the candidate alone, not on the weights. Returns ``net``, unchanged if the ratio
        is 0. Parameters are new objects afterwards, so create the optimizer anew."""

    @abstractmethod
    def build_pruned(self, candidate: Candidate, num_classes: int) -> SegmentationNet:
        """Build the network in its final, pruned shape without training: for latency prediction, and to load the
        state dict of a pruned checkpoint into."""
