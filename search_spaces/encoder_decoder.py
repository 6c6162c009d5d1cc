"""The space of timm encoders x decoders x width x input resolution x prune ratio, and how each is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

from search_spaces.candidate import Candidate
from search_spaces.decoder_specs import DECODERS
from search_spaces.dimensions import Categorical, LogUniform
from search_spaces.errors import UserError
from search_spaces.families import FAMILIES
from search_spaces.names import unknown_name
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from search_spaces.networks import SegmentationNet

RESOLUTION_MULTIPLE_PX = 32

_T = TypeVar("_T")


class EncoderDecoderSpace(SearchSpace):
    """``family``, ``decoder``, ``width``, ``resolution`` ("HxW" in pixels), ``prune_ratio``, ``learning_rate`` and
    ``weight_decay``.

    Args:
        families: encoder families, keys of ``FAMILIES``; all of them by default.
        decoders: keys of ``DECODERS``; all of them by default.
        widths: channel multipliers.
        resolutions_px: (height, width) of the input, multiples of 32.
        prune_ratios: shares of the channels to prune, in [0, 1).
        learning_rate: lowest and highest, searched on a log scale.
        weight_decay: lowest and highest, searched on a log scale.

    Raises:
        UserError: an option is empty, out of range, or names something unknown.
    """

    name: ClassVar[str] = "encoder_decoder"
    version: ClassVar[int] = 1
    architecture_dimensions: ClassVar[tuple[str, ...]] = ("family", "decoder", "width", "resolution", "prune_ratio")

    def __init__(
        self,
        families: Sequence[str] | None = None,
        decoders: Sequence[str] | None = None,
        widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        resolutions_px: Sequence[Sequence[int]] = ((96, 128), (128, 160), (160, 224), (192, 256)),
        prune_ratios: Sequence[float] = (0.0, 0.25, 0.5),
        learning_rate: Sequence[float] = (5e-4, 1e-2),
        weight_decay: Sequence[float] = (1e-5, 1e-2),
    ) -> None:
        self.dimensions = (
            Categorical("family", _known_names("families", families, "encoder family", list(FAMILIES))),
            Categorical("decoder", _known_names("decoders", decoders, "decoder", list(DECODERS))),
            Categorical("width", _numbers("widths", widths, low=0.125, high=2.0)),
            Categorical("resolution", _resolutions(resolutions_px)),
            Categorical("prune_ratio", _numbers("prune_ratios", prune_ratios, low=0.0, high=0.9)),
            _log_range("learning_rate", learning_rate),
            _log_range("weight_decay", weight_decay),
        )

    def default(self) -> Candidate:
        choices = {d.name: d.choices for d in self.dimensions if isinstance(d, Categorical)}
        ranges = {d.name: d for d in self.dimensions if isinstance(d, LogUniform)}
        families, decoders = choices["family"], choices["decoder"]
        by_area = sorted(choices["resolution"], key=lambda text: math.prod(parse_resolution(str(text))))
        usual = {"learning_rate": 3e-3, "weight_decay": 1e-4}
        return self.candidate(
            {
                "family": "mobilenetv2" if "mobilenetv2" in families else families[0],
                "decoder": "fpn" if "fpn" in decoders else decoders[0],
                "width": min(choices["width"], key=lambda width: abs(float(width) - 1.0)),
                "resolution": by_area[len(by_area) // 2],
                "prune_ratio": min(choices["prune_ratio"], key=float),
                **{name: min(max(value, ranges[name].low), ranges[name].high) for name, value in usual.items()},
            }
        )

    def operations_id(self, candidate: Candidate) -> str | None:
        return ":".join(str(candidate.params[name]) for name in ("family", "decoder", "width"))

    def input_hw(self, candidate: Candidate) -> tuple[int, int]:
        return parse_resolution(str(candidate.params["resolution"]))

    def prune_ratio(self, candidate: Candidate) -> float:
        return float(candidate.params["prune_ratio"])

    def hyperparameters(self, candidate: Candidate) -> dict[str, float]:
        return {name: float(candidate.params[name]) for name in ("learning_rate", "weight_decay")}

    def build(self, candidate: Candidate, num_classes: int, *, seed: int = 0) -> SegmentationNet:
        from search_spaces.networks import build_network

        self.check_origin(candidate)
        params = candidate.params
        family = FAMILIES[str(params["family"])]
        decoder = DECODERS[str(params["decoder"])]
        return build_network(family, decoder, float(params["width"]), num_classes, self.input_hw(candidate), seed=seed)

    def load_pretrained(self, net: SegmentationNet, candidate: Candidate, source: str) -> str:
        from search_spaces.pretrained import load_pretrained

        params = candidate.params
        family, decoder = FAMILIES[str(params["family"])], DECODERS[str(params["decoder"])]
        return load_pretrained(net, family, float(params["width"]), decoder.reductions, source)

    def prune(self, net: SegmentationNet, candidate: Candidate) -> SegmentationNet:
        from search_spaces.pruning import prune_network

        return prune_network(net, self.prune_ratio(candidate))

    def build_pruned(self, candidate: Candidate, num_classes: int) -> SegmentationNet:
        return self.prune(self.build(candidate, num_classes), candidate)


def parse_resolution(text: str) -> tuple[int, int]:
    """``"96x128"`` to (96, 128): height, then width, in pixels."""
    height, _, width = text.partition("x")
    return int(height), int(width)


def _known_names(option: str, given: Sequence[str] | None, what: str, known: list[str]) -> tuple[str, ...]:
    names = known if given is None else _listed(option, given)
    for name in names:
        if name not in known:
            raise unknown_name(what, name, known)
    return _distinct(option, names)


def _numbers(option: str, given: Sequence[float], *, low: float, high: float) -> tuple[float, ...]:
    numbers = []
    for value in _listed(option, given):
        number = _number(value)
        if not low <= number <= high:
            raise UserError(f"search space option {option}: each must be a number from {low} to {high}, got {value!r}.")
        numbers.append(number)
    return _distinct(option, numbers)


def _resolutions(given: Sequence[Sequence[int]]) -> tuple[str, ...]:
    for pair in _listed("resolutions_px", given):
        sides: list[object] = list(pair) if isinstance(pair, list | tuple) else []
        whole = len(sides) == 2 and all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
        if not whole or any(side <= 0 or side % RESOLUTION_MULTIPLE_PX for side in pair):
            raise UserError(
                f"search space option resolutions_px: each must be [height, width], both multiples of "
                f"{RESOLUTION_MULTIPLE_PX}, such as [96, 128], got {pair!r}."
            )
    return _distinct("resolutions_px", [f"{pair[0]}x{pair[1]}" for pair in given])


def _log_range(option: str, given: Sequence[float]) -> LogUniform:
    pair = _listed(option, given)
    numbers = [_number(end) for end in pair]
    if len(numbers) != 2 or not 0.0 < numbers[0] <= numbers[1] < math.inf:
        raise UserError(f"search space option {option}: must be [lowest, highest], both above 0, got {given!r}.")
    return LogUniform(option, *numbers)


def _number(value: object) -> float:
    """``value`` as a float, NaN where it is none. YAML reads ``1e-3``, without a dot, as text: that is taken too."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan


def _listed(option: str, given: Sequence[_T]) -> list[_T]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise UserError(f"search space option {option}: must be a list with at least one entry, got {given!r}.")
    return list(given)


def _distinct(option: str, values: Sequence[_T]) -> tuple[_T, ...]:
    if len(set(values)) != len(values):
        raise UserError(f"search space option {option}: an entry is listed twice in {list(values)!r}; leave one.")
    return tuple(values)
