"""JSON schema of a study's YAML, for editors: names, types, ranges, and the older names of keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel

from trial_runner.config.study import ObjectiveSection, StudyConfig
from trial_runner.config.targets import TargetSection

_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_]"}


def study_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a study's YAML.

    It accepts what `load_config` accepts: older names of keys (marked deprecated), empty sections, objectives by their name alone,
    and ``${NAME}`` for any value. Rules between keys are checked by `load_config` only.
    """
    schema = StudyConfig.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    for model in _models(StudyConfig, set()):
        section = schema if model is StudyConfig else definitions[model.__name__]
        for name, field in model.model_fields.items():
            properties = section["properties"]
            properties[name] = _with_variable(properties[name])
            if not isinstance(field.validation_alias, AliasChoices):
                continue
            for other in field.validation_alias.choices:
                if other != name:
                    older = {"deprecated": True, "description": f"older name of {name}"}
                    properties[str(other)] = {**properties[name], **older}
    named = definitions[ObjectiveSection.__name__]
    text = {"type": "string", "minLength": 1}
    definitions[ObjectiveSection.__name__] = {"anyOf": [text, named]}
    target = {"anyOf": [text, definitions[TargetSection.__name__]]}
    definitions[TargetSection.__name__] = target
    device = schema["properties"]["device"]
    several = {"type": "array", "minItems": 1, "items": {"anyOf": [*device["anyOf"], target]}}
    schema["properties"]["device"] = {**device, "anyOf": [*device["anyOf"], several]}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "a study of paretoseg"
    return schema


def _models(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """Yield a model and those of its sections."""
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _models(kind, seen)


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _with_variable(value: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a key that takes an environment variable, and nothing where it is an empty section."""
    others: dict[str, Any] = {
        key: value[key] for key in ("title", "default", "description", "deprecated") if key in value
    }
    rule = {key: part for key, part in value.items() if key not in others}
    if rule.get("type") == "string" and "enum" not in rule and "pattern" not in rule:
        return value
    options = rule.pop("anyOf", None) or [rule]
    empty = [{"type": "null"}] if "$ref" in value or rule.get("type") in ("array", "object") else []
    return {**others, "anyOf": [*options, *(item for item in empty if item not in options), _VARIABLE]}
