"""Columns of a measurement file, derived from the fields of ``Measurement``, and their types."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from hw_latency_model.types import Measurement
from search_spaces._common.untrusted import parse_json

Kind = Literal["text", "int", "float", "bool", "floats", "json"]

FILE_VERSION = "file_version"
CONTENT_HASH = "content_hash"
PROTOCOL = "protocol"
_SIMPLE: dict[Any, Kind] = {str: "text", int: "int", float: "float", bool: "bool", tuple[float, ...]: "floats"}
_POSITIVE = ("latency_ms_p50", "latency_ms_p90", "latency_ms_p99")

_MOST_DIGITS = 18


class CellError(ValueError):
    """Invalid cell; the message describes its content without naming the column."""


@dataclass(frozen=True)
class FileColumn:
    """Column of a measurement file.

    Attributes:
        name: name of the column, and of its field if it has one.
        kind: type of its cells; ``floats`` and ``json`` are JSON in a CSV file.
        optional: a cell may be empty, i.e. None.
        required: a file without the column is rejected.
    """

    name: str
    kind: Kind
    optional: bool = False
    required: bool = True


def file_columns() -> list[FileColumn]:
    """Columns in order: version, hash, the facts, then fingerprint, protocol and kernels as JSON."""
    hints = get_type_hints(Measurement)
    facts: list[FileColumn] = []
    whole: list[FileColumn] = []
    for field in fields(Measurement):
        options = [option for option in get_args(hints[field.name]) if option is not NoneType]
        optional = NoneType in get_args(hints[field.name])
        kind = _SIMPLE.get(options[0] if optional else hints[field.name], "json")
        column = FileColumn(field.name, kind, optional, field.default is MISSING)
        (facts if kind not in ("floats", "json") else whole).append(column)
    head = [FileColumn(FILE_VERSION, "int"), FileColumn(CONTENT_HASH, "text", optional=True, required=False)]
    return [*head, *facts, *whole, FileColumn(PROTOCOL, "json", optional=True, required=False)]


def from_text(column: FileColumn, cell: str) -> Any:
    """Parse a CSV cell.

    Raises:
        CellError: it has another type.
    """
    if not cell and column.optional:
        return None
    if column.kind == "text":
        return cell
    if column.kind == "bool":
        if cell.lower() not in ("true", "false"):
            raise CellError(f"{_shown(cell)} is neither true nor false")
        return cell.lower() == "true"
    if column.kind == "int":
        try:
            if len(cell) > _MOST_DIGITS:
                raise ValueError("too long for 64 bits")
            return int(cell)
        except ValueError as error:
            raise CellError(f"{_shown(cell)} is not a whole number") from error
    if column.kind == "float":
        try:
            return float(cell)
        except ValueError as error:
            raise CellError(f"{_shown(cell)} is not a number") from error
    try:
        return parse_json(cell)
    except ValueError as error:
        raise CellError(f"{_shown(cell)} is not JSON") from error


def to_text(column: FileColumn, value: Any) -> str:
    """Inverse of ``from_text``; numbers keep every digit."""
    if value is None:
        return ""
    if column.kind in ("floats", "json"):
        return json.dumps(value, allow_nan=False, sort_keys=isinstance(value, Mapping))
    if column.kind == "bool":
        return "true" if value else "false"
    return repr(float(value)) if column.kind == "float" else str(value)


def checked(column: FileColumn, value: Any) -> Any:
    """Convert ``value`` to the field's type; lists become tuples.

    Raises:
        CellError: it has another type, is not finite, or is a latency that is not positive.
    """
    if value is None:
        if column.optional:
            return None
        raise CellError("it is empty")
    if column.kind == "json":
        return tuple(value) if isinstance(value, list) else value
    if column.kind == "floats":
        if not isinstance(value, list | tuple) or not all(_is_number(item) for item in value):
            raise CellError(f"{_shown(value)} is not a list of numbers")
        return tuple(float(item) for item in value)
    wrong = {
        "text": not isinstance(value, str),
        "bool": not isinstance(value, bool),
        "int": not isinstance(value, int) or isinstance(value, bool),
        "float": not _is_number(value),
    }
    if wrong[column.kind]:
        names = {"text": "text", "bool": "true or false", "int": "a whole number", "float": "a finite number"}
        raise CellError(f"{_shown(value)} is not {names[column.kind]}")
    if column.name in _POSITIVE and not value > 0:
        raise CellError(f"{_shown(value)} is not above 0")
    return float(value) if column.kind == "float" else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
