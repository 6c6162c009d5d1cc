"""What every search space offers: proposals in, networks out."""

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
    """A set of candidates and the one way to turn each into a network.

    Attributes:
        name: key in ``search_spaces.SPACES``.
        version: part of every candidate's id; raised whenever the same params would build another network.
        architecture_params: names of all dimensions that shape a network, as opposed to how it is trained, offered here or not.
        dimensions: the axes, in the order they are asked for.
        added_dimensions: further axes, ``precision`` and ``training.KEY``, which a study adds: they shape no network.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    architecture_params: ClassVar[tuple[str, ...]]
    dimensions: tuple[Dimension, ...]
    added_dimensions: tuple[Dimension, ...] = ()

    def suggest(self, trial: Suggester) -> Candidate:
        """Ask an Optuna trial for a value on every axis. Asked again, the same trial gives an equal candidate."""
        axes = (*self.dimensions, *self.added_dimensions)
        return self.candidate({dimension.name: dimension.suggest(trial) for dimension in axes})

    def sample(self, rng: np.random.Generator) -> Candidate:
        """Draw a candidate at random, deterministic by the generator's state."""
        axes = (*self.dimensions, *self.added_dimensions)
        return self.candidate({dimension.name: dimension.sample(rng) for dimension in axes})

    def candidate(self, params: Mapping[str, ParamValue]) -> Candidate:
        """The candidate with exactly these params; added dimensions that are left out take their usual value.

        Raises:
            ValueError: a dimension is missing, unknown, or its value is off the axis.
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
        """Names of the dimensions offered here that shape the network, the most telling first."""
        offered = {dimension.name for dimension in self.dimensions}
        return tuple(name for name in self.architecture_params if name in offered)

    def architecture_id(self, candidate: Candidate) -> str:
        """16 hex digits over the params that shape the network: candidates that only train differently share it."""
        self.check_origin(candidate)
        params = {name: candidate.params[name] for name in self.architecture_params if name in candidate.params}
        text = json.dumps([self.name, self.version, params], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def operations_id(self, candidate: Candidate) -> str | None:
        """The same for candidates whose networks differ in nothing but the image's size and the share of pruned channels.

        One of them then tells the operations of all. None, unless a space says otherwise: that cannot be relied on.
        """
        return None

    def check_origin(self, candidate: Candidate) -> None:
        """Refuse a candidate of another space, or of another version of this one, with ``UserError``."""
        if (candidate.space, candidate.space_version) != (self.name, self.version):
            raise UserError(
                f"candidate {candidate.id} belongs to search space {candidate.space!r} version "
                f"{candidate.space_version}, but this study uses {self.name!r} version {self.version}; "
                "start a study under a new name, or use the release that made the old one."
            )

    def resize_modes(self) -> frozenset[str]:
        """Modes of ONNX's Resize that its networks may hold: a target that takes none of one refuses those networks."""
        return frozenset({"linear"})

    @abstractmethod
    def default(self) -> Candidate:
        """The one network a practitioner would take without searching."""

    @abstractmethod
    def input_hw(self, candidate: Candidate) -> tuple[int, int]:
        """Height and width in pixels of the network's input."""

    @abstractmethod
    def prune_ratio(self, candidate: Candidate) -> float:
        """Share of each layer's channels that pruning takes away, in [0, 1)."""

    @abstractmethod
    def hyperparameters(self, candidate: Candidate) -> dict[str, float]:
        """How it is trained: ``learning_rate`` and ``weight_decay`` at least."""

    @abstractmethod
    def build(self, candidate: Candidate, num_classes: int, *, seed: int = 0) -> SegmentationNet:
        """The network before pruning, randomly initialised by ``seed`` alone, on the CPU, in training mode.

        The global random state of torch is left as it was found.
        """

    def load_pretrained(self, net: SegmentationNet, candidate: Candidate, source: str) -> str:
        """Replace random weights of ``net``, as built, by pretrained ones, and say which.

        Raises:
            UserError: the space has no pretrained weights, or the source cannot be used.
        """
        if source == "none":
            return "random"
        raise UserError(f"the search space {self.name} takes no pretrained weights; set training.weights to none.")

    @abstractmethod
    def prune(self, net: SegmentationNet, candidate: Candidate) -> SegmentationNet:
        """Remove the weakest channels of a network made by ``build``, in place; the resulting shape depends on the
        candidate alone, never on the weights. Returns ``net``, untouched where the ratio is 0. Parameters are new
        objects afterwards, so make the optimizer anew."""

    @abstractmethod
    def build_pruned(self, candidate: Candidate, num_classes: int) -> SegmentationNet:
        """The final shape without any training: what a latency is predicted on and what a pruned checkpoint is
        loaded into (``load_state_dict`` with ``strict=True``)."""
