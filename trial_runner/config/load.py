"""Reading a study's YAML: overrides and relative paths; ``search_spaces._common.yaml_config`` checks keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from search_spaces._common.references import add_import_folder
from search_spaces._common.yaml_config import ConfigError, check_values, override, read_yaml
from trial_runner.config.study import StudyConfig

__all__ = ["ConfigError", "dump_config", "load_config"]


def load_config(path: str | PathLike[str], overrides: Iterable[str] = ()) -> StudyConfig:
    """Read a study's YAML; ``overrides`` are ``section.key=value`` with a YAML value.

    Relative paths and sqlite URLs come back absolute, taken from the YAML's folder. ``${NAME:-default}`` is replaced
    from the environment.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds an unknown key or a value out of range.
    """
    path = Path(path)
    values, tree = read_yaml(path, what="study file", sections="study, data, device, …")
    if "transport" in values and "study" not in values:
        raise ConfigError(f"{path} describes a device, not a study. Measure it with: paretoseg calibrate {path}")
    for text in overrides:
        override(values, text)
    config = check_values(StudyConfig, values, path, tree)
    return resolve_paths(config, path.resolve().parent)


def study_of(source: Mapping[str, Any] | StudyConfig, folder: Path) -> StudyConfig:
    """Check a study's values; relative paths come back absolute, taken from ``folder``.

    Raises:
        ConfigError: an unknown key or a value out of range.
    """
    config = source if isinstance(source, StudyConfig) else check_values(StudyConfig, source, Path("the study"), None)
    return resolve_paths(config, folder.resolve())


def dump_config(config: StudyConfig) -> str:
    """The resolved configuration as YAML, which `load_config` reads back. Passwords in the storage URL are left out."""
    values = config.model_dump(mode="json")
    values["study"]["storage"] = make_url(config.study.storage)._replace(password=None).render_as_string()
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def resolve_paths(config: StudyConfig, folder: Path) -> StudyConfig:
    """Make relative paths and sqlite URLs absolute, from ``folder``; where the study has references, make them importable.

    Raises:
        ConfigError: the storage is no database URL.
    """
    try:
        url = make_url(config.study.storage)
    except ArgumentError as error:
        raise ConfigError(
            "study.storage is not a database URL. Write for example sqlite:///study.db or postgresql+psycopg2://user@host/db."
        ) from error
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str((folder / url.database).resolve()))
    python_path = config.study.python_path
    if python_path is not None or config.references:
        python_path = (folder / (python_path or Path()).expanduser()).resolve()
        add_import_folder(python_path)
    study = config.study.model_copy(
        update={
            "storage": url.render_as_string(hide_password=False),
            "output_dir": (folder / config.study.output_dir.expanduser()).resolve(),
            "python_path": python_path,
        }
    )
    root = config.data.root
    data = config.data.model_copy(update={"root": (folder / root.expanduser()).resolve() if root else None})
    device = config.device
    models = {precision: (folder / path.expanduser()).resolve() for precision, path in device.latency_models.items()}
    model = device.latency_model
    if device.predictor is None:
        model = (folder / model.expanduser()).resolve()
    board = (folder / device.board.expanduser()).resolve() if device.board else None
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
            "device": device.model_copy(update={"latency_model": model, "latency_models": models, "board": board}),
            "training": config.training.model_copy(update={"weights": weights, "distillation": distillation}),
        }
    )
