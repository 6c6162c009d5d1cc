"""Schema of the section ``space`` of a YAML file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from search_spaces._common.references import is_reference
from search_spaces.candidate import Precision

Positive = Annotated[int, Field(gt=0, le=2**31 - 1)]
Side = Annotated[int, Field(gt=0, le=32768)]
"""Height or width of an image in pixels."""
Size = tuple[Side, Side]
_LONGEST_TEXT = 4096
_LARGEST_NUMBER = 1e30


def renamed(name: str, stored: str, default: Any, **constraints: Any) -> Any:
    """Field of a section that is read under its ``name`` or under ``stored``, its older one, and dumped as ``stored``.

    Dumps, fingerprints and candidate ids are so those from before the renaming. ``constraints`` are those of `pydantic.Field`.
    """
    return Field(default, validation_alias=AliasChoices(name, stored), serialization_alias=stored, **constraints)


def stored_name(model: type[BaseModel], name: str) -> str:
    """Name under which a model's field is dumped."""
    return model.model_fields[name].serialization_alias or name


def _kinds(annotation: Any) -> Iterator[Any]:
    """Types in an annotation: ``list``, ``int`` and ``NoneType`` of ``list[int] | None``."""
    yield get_origin(annotation) or annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _kinds(part)


def unusable(value: Any) -> str | None:
    """Reason why no later step could hold a value of a YAML file, at any depth; None for all others.

    Files, databases and devices take no NUL and no text that is not Unicode, JSON no infinity, and 64 bits no longer numbers.
    """
    if isinstance(value, dict | list | tuple):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return next((problem for part in parts if (problem := unusable(part))), None)
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            return f"it has {len(value)} characters: write {_LONGEST_TEXT} at most"
        if "\0" in value:
            return "it holds a NUL character: leave that out"
        if any("\ud800" <= character <= "\udfff" for character in value):
            return "it holds text that is no Unicode: write it in UTF-8"
    if isinstance(value, float) and math.isnan(value):
        return "it holds a value that is not a number"
    if isinstance(value, float) and abs(value) > _LARGEST_NUMBER:
        return f"it holds {value}: write a number up to {_LARGEST_NUMBER:g}"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "it holds a number of more than 64 bits: write a smaller one"
    return None


class Section(BaseModel):
    """Base class of a section of a YAML file; unknown keys are errors, and so are two names of one key."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)
    omitted_at_default: ClassVar[frozenset[str]] = frozenset()
    """Keys omitted from a dump at their default, so that dumps are those from before the key was added."""

    @model_validator(mode="before")
    @classmethod
    def _one_name_each(cls, values: Any) -> Any:
        for field in cls.model_fields.values():
            names = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else []
            given = [name for name in names if isinstance(values, dict) and name in values]
            if len(given) > 1:
                raise ValueError(f"{given[0]} and {given[1]} are two names of one key: keep {given[0]}")
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _read_as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """An empty section is one of defaults; true is no 1, and a key without a value no default."""
        field = cls.model_fields[str(info.field_name)]
        kinds = set(_kinds(field.annotation))
        if value is None and type(None) not in kinds and Any not in kinds:
            section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
            if section is not None and list not in kinds:
                return {}
            if kinds & {list, dict} and not field.is_required():
                return field.get_default(call_default_factory=True)
            raise ValueError("it has no value: give one, or leave the line out")
        sections = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)
        problem = None if sections else unusable(value)
        if problem:
            raise ValueError(problem)
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, bool) and kinds.isdisjoint({bool, Any, object}):
                raise ValueError(f"it takes no {str(item).lower()}: write the value itself")
        return value

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        for key in self.omitted_at_default:
            default = type(self).model_fields[key].get_default(call_default_factory=True)
            if key in values and getattr(self, key) == default:
                del values[key]
        return values


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
    """The search space; a key left out takes the space's own default.

    ``name``: a space of this package, or ``module:name`` of a custom one; ``options``: further arguments of its constructor;
    ``precisions``: precisions on the device, as a further dimension; ``training``: search values by key of the section training.
    """

    omitted_at_default = frozenset({"options"})

    name: str = "encoder_decoder"
    options: dict[str, Any] = Field(default_factory=dict)
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
        given = self.model_dump(exclude={"name", "options"}, exclude_none=True)
        for key in ("learning_rate", "weight_decay"):
            if key in given:
                given[key] = (given[key]["low"], given[key]["high"])
        return {**given, **self.options}

    @field_validator("resolutions_px", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        flat = [item for item in value if not isinstance(item, list | tuple)] if isinstance(value, list | tuple) else []
        if flat:
            shown = f"[[{', '.join(map(str, value))}]]" if len(value) == 2 == len(flat) else "[[96, 128], [192, 256]]"
            raise ValueError(f"it is a list of pairs [height, width] in pixels: write {shown}")
        return value

    @property
    def custom(self) -> bool:
        """True for a custom space, named by a reference."""
        return is_reference(self.name)

    @model_validator(mode="after")
    def _option_given_once(self) -> SpaceSection:
        twice = [key for key in self.options if key in type(self).model_fields and getattr(self, key) is not None]
        if twice:
            raise ValueError(f"{twice[0]} is given both in space and in space.options: leave one of them out")
        return self
