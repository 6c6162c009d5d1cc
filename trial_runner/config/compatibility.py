"""Configuration keys that must not change between launches of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from objectives.objective import ROBUST
from search_spaces.spaces.config import Section
from trial_runner.config.load import public_values
from trial_runner.config.study import DataSection, StudyConfig, TrainingSection

EARLIER_SAMPLER = "tpe"
"""Default of ``search.sampler`` in releases that did not store it."""


def incompatible_change(previous: Mapping[str, Any], config: StudyConfig) -> str | None:
    """Return the first difference from the stored configuration ``previous`` that makes old and new trials incomparable.

    None where there is none. A key that is younger than the study had its default there.
    """
    now = public_values(config)
    training = previous.get("training")
    if isinstance(training, dict):
        previous = {**previous, "training": TrainingSection.model_validate(training).model_dump(mode="json")}
    for section, ignored in (
        ("data", {"root", "missing_classes"}),
        ("training", {"device"}),
        ("device", {"latency_model", "latency_models", "latency_budget_ms", "measure_front", "board"}),
    ):
        old = previous.get(section)
        if not isinstance(old, dict):
            continue
        for key, value in now[section].items():
            if key not in ignored and key in old and old[key] != value:
                return f"{section}.{key} ({old[key]!r}, now {value!r})"
    space = previous.get("space")
    named = space.get("name", config.space.name) if isinstance(space, dict) else config.space.name
    if named != config.space.name:
        return f"space.name ({named!r}, now {config.space.name!r})"
    offered = space.get("precisions") if isinstance(space, dict) else None
    if offered != config.space.precisions:
        return f"space.precisions ({offered!r}, now {config.space.precisions!r})"
    for name, model, ignored in (("data", DataSection, {"missing_classes"}), ("training", TrainingSection, set[str]())):
        changed = _changed_omitted_key(name, model, ignored, previous.get(name), now[name])
        if changed:
            return changed
    options = space.get("options", {}) if isinstance(space, dict) else {}
    wanted = now["space"].get("options", {})
    if config.space.custom and options != wanted:  # they may change what a candidate's id stands for
        return f"space.options ({options!r}, now {wanted!r})"
    return changed_objectives(previous, config)


def _changed_omitted_key(
    name: str, model: type[Section], ignored: set[str], previous: object, now: Mapping[str, Any]
) -> str | None:
    """Return the change in a section's keys that are stored only where they differ from their default, or None."""
    old = previous if isinstance(previous, dict) else {}
    for key in sorted(model.omitted_at_default - ignored):
        default = model.model_fields[key].get_default(call_default_factory=True)
        was, is_now = old.get(key, default), now.get(key, default)
        if was != is_now:
            return f"{name}.{key} ({was!r}, now {is_now!r})"
    return None


def with_stored_sampler(previous: Mapping[str, Any] | None, config: StudyConfig) -> StudyConfig:
    """Return the configuration with the sampler that the study began with, where the YAML names none.

    Args:
        previous: stored configuration of a study that was launched before; None for a new study.
    """
    if previous is None or "sampler" in config.search.model_fields_set:
        return config
    search = previous.get("search")
    sampler = search.get("sampler", EARLIER_SAMPLER) if isinstance(search, dict) else EARLIER_SAMPLER
    return config.model_copy(update={"search": config.search.model_copy(update={"sampler": sampler})})


def changed_objectives(previous: Mapping[str, Any], config: StudyConfig) -> str | None:
    """Return the change in objectives that makes trials incomparable, or None.

    A budget's value may change; which objectives have one may not: samplers need equally many constraints of each trial.
    """
    were = sorted(item["name"] for item in previous.get("objectives", ()) if item["budget"] is not None)
    are = sorted(item.name for item in config.objectives if item.budget is not None)
    if were != are:
        return f"set of objectives with a budget ({', '.join(were) or 'none'}, now {', '.join(are) or 'none'})"
    now = config.robustness.model_dump(mode="json")
    if any(item.name == ROBUST for item in config.objectives) and previous.get("robustness") != now:
        return f"robustness ({previous.get('robustness')!r}, now {now!r})"
    return None
