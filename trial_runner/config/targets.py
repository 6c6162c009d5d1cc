"""Several targets of a study: ``device`` as a list, of which the first one decides the search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from exports.profiles import PROFILES, get_profile
from hw_latency_model.file_names import MODEL_FILE
from search_spaces._common.errors import UserError
from search_spaces._common.references import is_reference
from search_spaces._common.yaml_config import ConfigError
from search_spaces.candidate import Precision
from search_spaces.spaces.config import Section

REAL_TIME_MS = 33.3
"""Latency budget of a first target that is given by its name alone: 30 images a second."""


class TargetSection(Section):
    """A further target, whose latency is predicted for every trial without deciding the search; a name, or a section.

    ``latency_model``: by default ``NAME/latency_model.json`` in the folder beside that of ``device.latency_model``. ``precision``:
    by default that of ``device`` where the target runs it, else the target's best one. ``latency_budget_ms``: bounds its front."""

    name: str
    latency_model: Path | None = None
    latency_models: dict[Precision, Path] = Field(default_factory=dict)
    precision: Precision | None = None
    latency_budget_ms: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _runs_there(self) -> TargetSection:
        try:
            offered = get_profile(self.name).precisions
        except UserError as error:
            raise ValueError(str(error).rstrip(".")) from error
        if self.precision not in (None, *offered):
            raise ValueError(f"{self.name} does not run {self.precision}: set its precision to {' or '.join(offered)}")
        return self

    def precision_beside(self, primary: Precision) -> Precision:
        """Return its precision in a study whose first target runs ``primary``."""
        offered: Sequence[Any] = PROFILES[self.name].precisions
        best: Precision = primary if primary in offered else offered[0]
        return self.precision or best

    def model_path(self, primary: Path) -> Path:
        """Return the path of its latency model in a study whose first target has the model ``primary``."""
        if self.latency_model is not None:
            return self.latency_model
        if is_reference(str(primary)):
            return _model_of(self.name)
        return primary.parent.parent / self.name / primary.name


def split_targets(values: dict[str, Any], tree: yaml.Node | None) -> None:
    """Take a list ``device`` apart, in place: its first entry becomes ``device``, the others ``targets``.

    Args:
        values: of a study's YAML.
        tree: its nodes, which are taken apart alike, so that errors name the right line.

    Raises:
        ConfigError: the list is empty, or ``targets`` is given beside it.
    """
    devices = values.get("device")
    if not isinstance(devices, list):
        return
    if not devices:
        raise ConfigError("device is an empty list: name a target.")
    if values.get("targets"):
        raise ConfigError("device is a list of targets, and targets names more: write all of them under device.")
    first, *others = devices
    values["device"] = _named(first) if isinstance(first, str) else first
    values["targets"] = others
    pairs = tree.value if isinstance(tree, yaml.MappingNode) else []
    for at, (key, node) in enumerate(pairs):
        if key.value == "device" and isinstance(node, yaml.SequenceNode):
            name = yaml.ScalarNode(key.tag, "targets", key.start_mark, key.end_mark)
            rest = yaml.SequenceNode(node.tag, node.value[1:], node.start_mark, node.end_mark)
            pairs[at : at + 1] = [(key, node.value[0]), (name, rest)]
            return


def _named(name: str) -> dict[str, Any]:
    """Return the section of a first target that is given by its name alone."""
    precisions = PROFILES[name].precisions if name in PROFILES else ("fp32",)
    return {
        "name": name,
        "latency_model": str(_model_of(name)),
        "precision": precisions[0],
        "latency_budget_ms": REAL_TIME_MS,
    }


def _model_of(name: str) -> Path:
    return Path("runs") / name / MODEL_FILE
