"""YAML files validated by a pydantic model, with environment variables and errors that give line and nearest valid key.

Scalars are resolved as by the core schema of YAML 1.2: ``no``, ``1:30`` and ``0100`` are text and ``1e-1`` is a number, where YAML 1.1
(PyYAML's default) reads False, 90, 64 and text. Messages never quote a line of a file, which may hold a password.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import AliasChoices, BaseModel, ValidationError

from search_spaces._common.errors import UserError
from search_spaces._common.names import nearest_name
from search_spaces._common.urls import redact_url

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}\n]*))?\}")
_TOKEN = re.compile(
    "\ue000(\\d+)\ue001"
)  # stands for a variable while the text is parsed: its braces and its default are no YAML
_QUOTED = re.compile(r"'(?P<text>[^']*)'")
_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
)
_SHORTEST_SECRET = 3
_LONGEST_FOUND = 200
_MOST_BYTES = 1_000_000
_MOST_VALUES = 100_000

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(UserError):
    """An error in a YAML file; the message names file, line and key."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper; quotes text that either version of YAML would read as something else."""


def _plain_tag(text: str) -> str:
    """Return the tag of an unquoted scalar."""
    tag: str = _Loader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    ambiguous = _plain_tag(text) != "tag:yaml.org,2002:str"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if ambiguous else None)


for _kind, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), list(_first))
_Dumper.add_representer(str, _represent_text)


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Return JSON values as YAML that `read_yaml` reads back, in their order."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def flow_yaml(value: Any) -> str:
    """Return a JSON value as YAML in one line, which `read_yaml` reads back."""
    text: str = yaml.dump(
        [value], Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9
    )
    return text.strip()[1:-1]


def read_yaml(path: Path, *, what: str, sections: str) -> tuple[dict[str, Any], yaml.Node | None]:
    """Read a YAML file; returns its values, and its node tree with line numbers.

    ``${NAME:-default}`` in a scalar is replaced from the environment after parsing: a value may contain any character.

    Args:
        path: the file, in UTF-8 or UTF-16.
        what: the kind of file in errors: ``study file``.
        sections: its sections, in errors: ``study, data, device, …``.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        if stat.S_ISFIFO(path.stat().st_mode) and not path.resolve().is_relative_to(
            "/proc"
        ):  # a shell's <(…) is open already
            raise ConfigError(f"the {what} {path} is a pipe, which may never end. Give the path of a YAML file.")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ConfigError(
                f"the {what} {path} has more than {_MOST_BYTES // 1000} kB. Give the path of a YAML file."
            )
        text = _decode(content)
    except OSError as error:
        near = None if path.exists() else _nearest_file(path)
        step = f"Did you mean {near}?" if near else "Give the path of a YAML file."
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}. {step}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the {what} {path}: it is not text. Give the path of a YAML file.") from error
    try:
        variables: list[re.Match[str]] = []
        loader = _Loader(_VARIABLE.sub(lambda found: _token(found, variables), text))
        tree = loader.get_single_node()
        if tree is not None:
            _check_size(tree)
            _substitute(tree, path, variables)
            _check_repeated(tree, path)
        values = loader.construct_document(tree) if tree is not None else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_yaml_problem(error)}.") from None
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


def override(values: dict[str, Any], text: str, model: type[BaseModel] | None = None) -> None:
    """Set one value in place from text ``section.key=value``; the value is YAML, an entry of a list is named by its number.

    Args:
        values: of a file.
        text: the override.
        model: of the file; a key replaces the same one under another name.

    Raises:
        ConfigError: the text is malformed, or a section in it is a value.
    """
    key, separator, value = text.partition("=")
    *sections, last = key.split(".")
    if not separator or not all([*sections, last]):
        raise ConfigError(f"--set takes section.key=value; found {redact_url(text)!r}.")
    try:
        loader = _Loader(value)
        tree = loader.get_single_node()
        if tree is not None:
            _check_size(tree)
            _check_repeated(tree, Path(f"--set {key}"))
        new = loader.construct_document(tree) if tree is not None else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"--set {key}: its value is not valid YAML: {_yaml_problem(error)}. Put text into quotes: --set '{key}=\"…\"'."
        ) from None
    place: dict[str, Any] | list[Any] | None = values
    for position, section in enumerate(sections):
        if isinstance(place, list) and section.isdigit() and int(section) < len(place):
            place = place[int(section)]
        elif isinstance(place, dict):
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
        else:
            raise ConfigError(f"--set {key}: {'.'.join(sections[:position])} is a value, not a section.")
    if isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = new
        return
    if not isinstance(place, dict):
        raise ConfigError(f"--set {key}: {'.'.join(sections)} is a value, not a section.")
    section_model = _section_model(model, sections) if model else None
    for other in _other_names(section_model, last):
        place.pop(other, None)
    place[last] = new


def _nearest_file(path: Path) -> Path | None:
    """Return the YAML file beside ``path`` whose name is the most similar; None without a similar one."""
    with contextlib.suppress(OSError):
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml"))
        near = nearest_name(path.name, names, cutoff=0.75)
        return path.with_name(near) if near else None
    return None


def _decode(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def _yaml_problem(error: Exception) -> str:
    """Return a parser's complaint with its line, without any text of the file."""
    if isinstance(error, yaml.MarkedYAMLError):
        said = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return where + _QUOTED.sub(lambda found: found[0] if len(found["text"]) <= 1 else "…", said)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.reader.ReaderError):
        return "it holds a character that YAML does not allow"
    return str(error) if type(error) is yaml.YAMLError else "a value does not fit its tag"


def _nodes(node: yaml.Node, seen: set[int]) -> Iterator[yaml.Node]:
    if id(node) in seen:
        return
    seen.add(id(node))
    yield node
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _nodes(item, seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _nodes(key, seen)
            yield from _nodes(value, seen)


def _check_size(tree: yaml.Node) -> None:
    """Refuse aliases that write out to more values than a file holds: a few lines of them could fill the memory."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: frozenset[int]) -> int:
        if id(node) in above:
            raise yaml.YAMLError("an alias in it holds itself")
        if id(node) not in sizes:
            inside = above | {id(node)}
            parts: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                parts = node.value
            elif isinstance(node, yaml.MappingNode):
                parts = [part for pair in node.value for part in pair]
            sizes[id(node)] = 1 + sum(size(part, inside) for part in parts)
        return sizes[id(node)]

    if size(tree, frozenset()) > _MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES} values")


def _check_repeated(tree: yaml.Node, path: Path) -> None:
    for node in _nodes(tree, set()):
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                lines_of = f"in line {lines[name]} and in line {line}"
                raise ConfigError(f"{path}, line {line}: {key.value} is given twice, {lines_of}. Keep one of them.")
            lines[name] = line


def _token(found: re.Match[str], variables: list[re.Match[str]]) -> str:
    variables.append(found)
    return f"\ue000{len(variables) - 1}\ue001"


def _substitute(tree: yaml.Node, path: Path, variables: list[re.Match[str]]) -> None:
    """Replace variables in scalars; plain ones are resolved again, so that ``${N}`` may be a number."""
    for node in _nodes(tree, set()):
        if not isinstance(node, yaml.ScalarNode) or not (numbers := _TOKEN.findall(node.value)):
            continue
        used = [variables[int(number)] for number in numbers]
        for found in used:
            name = found["name"]
            if os.environ.get(name, found["default"]) is None:
                raise ConfigError(
                    f"{path}, line {node.start_mark.line + 1}: the environment variable {name} is not set. "
                    f"Run with {name}=… before the command."
                )
        values = iter([str(os.environ.get(found["name"], found["default"])) for found in used])
        vars(node)["variables"] = {found["name"]: os.environ.get(found["name"], found["default"]) for found in used}
        node.value = _TOKEN.sub(lambda _, values=values: next(values), node.value)  # type: ignore[misc]
        if node.style is None:
            node.tag = _plain_tag(node.value)


def _explain(error: ValidationError, model: type[BaseModel], path: Path, tree: yaml.Node | None) -> str:
    problems = []
    for detail in error.errors():
        keys = [str(key) for key in detail["loc"] if not (isinstance(key, str) and "[" in key)]  # of a union's members
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
            message = redact_url(detail["msg"].removeprefix("Value error, "))
            problems.append(f"{where}: {_masked(message, tree)}{_found(detail, tree, keys)}.")
    return "\n".join(dict.fromkeys(problems))


def _found(detail: Any, tree: yaml.Node | None, keys: list[str]) -> str:
    """Return the value that an error is about; that of an environment variable is named, not shown."""
    value, node = detail["input"], _node(tree, keys)
    variables = getattr(node, "variables", None)
    if variables:
        return f"; found the value of {' and '.join(f'${{{name}}}' for name in variables)}"
    if isinstance(value, dict) or (isinstance(node, yaml.CollectionNode) and _holds_variable(node)):
        return ""
    hint = ""
    if detail["type"] == "string_type" and isinstance(value, int | float) and not isinstance(value, bool):
        hint = ": put it into quotes"
    elif detail["type"] == "list_type" and isinstance(value, str | int | float):
        hint = ": put it into brackets, [ ]"
    shown = repr(value)  # shown whole or not at all: a password that is cut off could not be recognised
    found = redact_url(shown) if len(shown) <= _LONGEST_FOUND else f"a value of {len(shown)} characters"
    return f"; found {found}{hint}"


def _masked(message: str, tree: yaml.Node | None) -> str:
    """Replace the values of environment variables in a message by their names."""
    for node in _nodes(tree, set()) if tree is not None else ():
        for name, value in getattr(node, "variables", {}).items():
            if len(value) >= _SHORTEST_SECRET:
                message = message.replace(value, f"${{{name}}}")
    return message


def _holds_variable(node: yaml.Node) -> bool:
    return any(hasattr(item, "variables") for item in _nodes(node, set()))


def _node(node: yaml.Node | None, keys: list[str]) -> yaml.Node | None:
    """Return the node at a key; None for one that is not in the file, as one given by --set."""
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == key), None)
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
        else:
            return None
    return node


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
    found = _section_model(model, sections)
    return list(found.model_fields) if found else []


def _section_model(model: type[BaseModel], sections: list[str]) -> type[BaseModel] | None:
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
            return None
    return model


def _other_names(model: type[BaseModel] | None, key: str) -> list[str]:
    fields = model.model_fields.values() if model else ()
    aliases = [field.validation_alias for field in fields if isinstance(field.validation_alias, AliasChoices)]
    names = next((alias.choices for alias in aliases if key in alias.choices), [])
    return [str(name) for name in names if name != key]
