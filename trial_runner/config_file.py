"""Reading a study's YAML: environment variables, unknown keys with the nearest valid name and the line, relative paths."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from search_spaces.errors import UserError
from trial_runner.study_config import StudyConfig

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class ConfigError(UserError):
    """A study's YAML is not what it should be; the message names file, line and key."""


def load_config(path: Path, overrides: Iterable[str] = ()) -> StudyConfig:
    """Read a study's YAML; ``overrides`` are ``section.key=value`` with a YAML value.

    Relative paths and sqlite URLs come back absolute, taken from the YAML's folder. ``${NAME:-default}`` is replaced
    from the environment.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds an unknown key or a value out of range.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(
            f"cannot read the study file {path}: {error.strerror}. Give the path of a YAML file."
        ) from error
    try:
        text = _substitute(text, path)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold the sections study, data, device, …; found {type(values).__name__}.")
    for override in overrides:
        _override(values, override)
    try:
        config = StudyConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, path, tree)) from error
    return _absolute(config, path.resolve().parent)


def dump_config(config: StudyConfig) -> str:
    """The resolved configuration as YAML, which `load_config` reads back. Passwords in the storage URL are left out."""
    values = config.model_dump(mode="json")
    values["study"]["storage"] = make_url(config.study.storage)._replace(password=None).render_as_string()
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


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


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set takes section.key=value; found {override!r}.")
    *sections, last = key.split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: {section} is a value, not a section.")
    place[last] = yaml.safe_load(value)


def _absolute(config: StudyConfig, folder: Path) -> StudyConfig:
    try:
        url = make_url(config.study.storage)
    except ArgumentError as error:
        raise ConfigError(
            "study.storage is not a database URL. Write for example sqlite:///study.db or postgresql+psycopg2://user@host/db."
        ) from error
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str((folder / url.database).resolve()))
    study = config.study.model_copy(
        update={
            "storage": url.render_as_string(hide_password=False),
            "output_dir": (folder / config.study.output_dir.expanduser()).resolve(),
        }
    )
    root = config.data.root
    data = config.data.model_copy(update={"root": (folder / root.expanduser()).resolve() if root else None})
    model = (folder / config.device.latency_model.expanduser()).resolve()
    weights = config.training.weights
    if weights not in ("none", "hub"):
        weights = str((folder / Path(weights).expanduser()).resolve())
    distillation = config.training.distillation
    if distillation.teacher is not None:
        teacher = (folder / distillation.teacher.expanduser()).resolve()
        distillation = distillation.model_copy(update={"teacher": teacher})
    return config.model_copy(
        update={
            "study": study,
            "data": data,
            "device": config.device.model_copy(update={"latency_model": model}),
            "training": config.training.model_copy(update={"weights": weights, "distillation": distillation}),
        }
    )


def _explain(error: ValidationError, path: Path, tree: yaml.Node | None) -> str:
    problems = []
    for detail in error.errors():
        keys = [str(key) for key in detail["loc"]]
        where = f"{path}, line {_line(tree, keys)}: {'.'.join(keys) or 'the file'}"
        if detail["type"] == "extra_forbidden":
            known = _known_keys(keys[:-1])
            near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}."
            problems.append(f"{where} is not a known key; {hint}")
        elif detail["type"] == "missing":
            problems.append(f"{where} is missing; add it.")
        else:
            found = "" if isinstance(detail["input"], dict) else f"; found {detail['input']!r}"
            problems.append(f"{where}: {detail['msg'].removeprefix('Value error, ')}{found}.")
    return "\n".join(problems)


def _line(node: yaml.Node | None, keys: list[str]) -> int:
    """Line of a key in the file, or of the innermost section that is there (a key given by --set has none)."""
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


def _known_keys(sections: list[str]) -> list[str]:
    model: type[BaseModel] = StudyConfig
    for section in sections:
        field = model.model_fields.get(section)
        kinds: Mapping[str, Any] | tuple[Any, ...] = get_args(field.annotation) if field else ()
        for kind in (field.annotation if field else None, *kinds):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
                break
        else:
            return []
    return list(model.model_fields)
