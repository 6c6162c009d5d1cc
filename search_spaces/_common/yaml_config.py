"""YAML files validated by a pydantic model, with environment variables and errors that give line and nearest valid key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from search_spaces._common.errors import UserError
from search_spaces._common.names import nearest_name
from search_spaces._common.urls import redact_url

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(UserError):
    """An error in a YAML file; the message names file, line and key."""


def read_yaml(path: Path, *, what: str, sections: str) -> tuple[dict[str, Any], yaml.Node | None]:
    """Read a YAML file; returns its values, and its node tree with line numbers.

    ``${NAME:-default}`` is replaced from the environment.

    Args:
        path: the file.
        what: the kind of file in errors: ``study file``.
        sections: its sections, in errors: ``study, data, device, …``.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}. Give the path of a YAML file.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the {what} {path}: it is not text. Give the path of a YAML file.") from error
    try:
        text = _substitute(text, path)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold the sections {sections}; found {type(values).__name__}.")
    return values, tree


def check_values(model: type[Model], values: Mapping[str, Any], path: Path, tree: yaml.Node | None) -> Model:
    """Validate ``values`` as ``model``.

    Raises:
        ConfigError: an unknown key, or a value out of range; one line for each.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, model, path, tree)) from error


def override(values: dict[str, Any], text: str) -> None:
    """Set one value in place from text ``section.key=value``; the value is YAML.

    Raises:
        ConfigError: the text is malformed, or a section in it is a value.
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set takes section.key=value; found {text!r}.")
    *sections, last = key.split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {text}: {section} is a value, not a section.")
    place[last] = yaml.safe_load(value)


def _substitute(text: str, path: Path) -> str:
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.lstrip().startswith("#"):
            for match in reversed(list(_VARIABLE.finditer(line))):
                name = match["name"]
                value = os.environ.get(name, match["default"])
                if value is None:
                    raise ConfigError(
                        f"{path}, line {number}: the environment variable {name} is not set. "
                        f"Run with {name}=… before the command."
                    )
                line = line[: match.start()] + value + line[match.end() :]
        lines.append(line)
    return "\n".join(lines)


def _explain(error: ValidationError, model: type[BaseModel], path: Path, tree: yaml.Node | None) -> str:
    problems = []
    for detail in error.errors():
        keys = [str(key) for key in detail["loc"]]
        line = f", line {_line(tree, keys)}" if tree is not None else ""
        where = f"{path}{line}: {'.'.join(keys) or 'the file'}"
        if detail["type"] == "extra_forbidden":
            known = _known_keys(model, keys[:-1])
            near = nearest_name(keys[-1], known)
            hint = f"did you mean {near}?" if near else f"known here: {', '.join(known)}."
            problems.append(f"{where} is not a known key; {hint}")
        elif detail["type"] == "missing":
            problems.append(f"{where} is missing; add it.")
        else:
            found = "" if isinstance(detail["input"], dict) else redact_url(f"; found {detail['input']!r}")
            problems.append(f"{where}: {detail['msg'].removeprefix('Value error, ')}{found}.")
    return "\n".join(problems)


def _line(node: yaml.Node | None, keys: list[str]) -> int:
    """Line of a key in the file, or of its innermost section in the file (a key given by --set has no line)."""
    line = 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next(((name, value) for name, value in node.value if name.value == key), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _known_keys(model: type[BaseModel], sections: list[str]) -> list[str]:
    for section in sections:
        if section.isdigit():  # an entry of a list, whose fields are the next ones
            continue
        field = model.model_fields.get(section)
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
                break
        else:
            return []
    return list(model.model_fields)
