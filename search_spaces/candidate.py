"""A candidate: one point of a search space, with an id by which duplicates are recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

ParamValue = int | float | str | bool
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
PRECISION = "precision"
TRAINING_PREFIX = "training."
"""Prefix of the names of dimensions that set a key of the section ``training``."""


@dataclass(frozen=True)
class Candidate:
    """One point of a search space.

    Attributes:
        space: name of the search space, a key of ``search_spaces.SPACES``.
        space_version: increased whenever the same params would build another network.
        params: dimension name to value, all JSON scalars.
        id: 16 hex digits, a hash of the three above: the cache key of everything derived from the candidate.
    """

    space: str
    space_version: int
    params: Mapping[str, ParamValue]
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", dict(self.params))
        text = json.dumps([self.space, self.space_version, self.params], sort_keys=True, separators=(",", ":"))
        object.__setattr__(self, "id", hashlib.sha256(text.encode()).hexdigest()[:16])

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def precision(self) -> Precision | None:
        """Numeric precision on the device if the study searches over it, else None: the study's own precision."""
        return cast("Precision | None", self.params.get(PRECISION))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, ``id`` included."""
        return {"space": self.space, "space_version": self.space_version, "params": dict(self.params), "id": self.id}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Candidate:
        """Inverse of ``to_dict``; the id is computed anew. Raises KeyError for a missing value."""
        return cls(value["space"], value["space_version"], value["params"])
