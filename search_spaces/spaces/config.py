"""The section ``space`` of a YAML file: which search space, and what it may try."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.candidate import Precision

Positive = Annotated[int, Field(gt=0)]
Size = tuple[Positive, Positive]


class Section(BaseModel):
    """A part of a YAML file, which takes no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LogRange(Section):
    """A range that is searched on a log scale."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> LogRange:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high})")
        return self


Numbers = list[float] | dict[str, float]
"""Values, or a range: ``low``, ``high`` and, unless it is continuous, ``step``."""

TrainingChoices = LogRange | Annotated[list[bool | int | float | str], Field(min_length=1)]


class SpaceSection(Section):
    """What can be tried; a key left out takes the space's own default. ``precisions``: what the networks run in on the device, as one
    more choice; ``training`` maps keys of the section training to values."""

    name: str = "encoder_decoder"
    families: list[str] | None = None
    decoders: list[str] | None = None
    widths: Numbers | None = None
    resolutions_px: list[Size] | None = None
    prune_ratios: list[float] | None = None
    depths: Numbers | None = None
    output_strides: list[int] | None = None
    upsamplings: list[str] | None = None
    kernels: list[int] | None = None
    expansions: list[int] | None = None
    squeeze_excite: list[bool] | None = None
    activations: list[str] | None = None
    precisions: list[Precision] | None = None
    learning_rate: LogRange | None = None
    weight_decay: LogRange | None = None
    training: dict[str, TrainingChoices] | None = None

    def arguments(self) -> dict[str, object]:
        """The keys that were given, as arguments of the search space."""
        given = self.model_dump(exclude={"name"}, exclude_none=True)
        for key in ("learning_rate", "weight_decay"):
            if key in given:
                given[key] = (given[key]["low"], given[key]["high"])
        return given
