"""Reading a study's YAML: overrides and relative paths; ``search_spaces._common.yaml_config`` checks keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from search_spaces._common.references import add_import_folder, is_reference
from search_spaces._common.urls import home_path, parse_database_url, redact_url, without_secrets
from search_spaces._common.yaml_config import ConfigError, check_values, dump_yaml, override, read_yaml
from trial_runner.config.study import StudyConfig, is_study_file
from trial_runner.config.targets import TargetSection, split_targets

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
    split_targets(values, tree)
    for text in overrides:
        override(values, text, StudyConfig)
    split_targets(values, None)
    config = check_values(StudyConfig, values, path, tree)
    return resolve_paths(config, path.resolve().parent)


def study_of(source: Mapping[str, Any] | StudyConfig, folder: Path) -> StudyConfig:
    """Check a study's values; relative paths come back absolute, taken from ``folder``.

    Raises:
        ConfigError: an unknown key or a value out of range.
    """
    if isinstance(source, StudyConfig):
        return resolve_paths(source, folder.resolve())
    values = dict(source)
    split_targets(values, None)
    return resolve_paths(check_values(StudyConfig, values, Path("the study"), None), folder.resolve())


def dump_config(config: StudyConfig) -> str:
    """Return the resolved configuration as YAML, which `load_config` reads back, without passwords."""
    values = public_values(config)
    storage = without_secrets(parse_database_url(config.study.storage, "study.storage"))
    return dump_yaml({**values, "study": {**values["study"], "storage": storage}})


def public_values(config: StudyConfig) -> dict[str, Any]:
    """Return the configuration as JSON values in which the password of every URL is replaced by ``***``."""
    values: dict[str, Any] = _redacted(config.model_dump(mode="json"))
    return values


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return redact_url(value) if isinstance(value, str) and "://" in value else value


def resolve_paths(config: StudyConfig, folder: Path) -> StudyConfig:
    """Make relative paths and sqlite URLs absolute, from ``folder``; where the study has references, make them importable.

    Raises:
        UserError: the storage is no database URL, or a home folder is not known.
    """
    url = parse_database_url(config.study.storage, "study.storage")
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str((folder / url.database).resolve()))
    python_path = config.study.python_path
    if python_path is not None or config.references:
        python_path = (folder / home_path(python_path or Path(), "study.python_path")).resolve()
        add_import_folder(python_path)
    study = config.study.model_copy(
        update={
            "storage": url.render_as_string(hide_password=False),
            "output_dir": (folder / home_path(config.study.output_dir, "study.output_dir")).resolve(),
            "python_path": python_path,
        }
    )
    root = config.data.root
    data = config.data.model_copy(update={"root": (folder / home_path(root, "data.root")).resolve() if root else None})
    device = config.device
    models = {
        precision: (folder / home_path(path, "device.latency_models")).resolve()
        for precision, path in device.latency_models.items()
    }
    model = device.latency_model
    if device.predictor is None:
        model = (folder / home_path(model, "device.latency_model")).resolve()
    targets = [_resolved_target(target, folder) for target in config.targets]
    board = (folder / home_path(device.board, "device.board")).resolve() if device.board else None
    weights = config.training.weights
    if weights not in ("none", "hub"):
        weights = str((folder / home_path(weights, "training.weights")).resolve())
    distillation = config.training.distillation
    if distillation.teacher is not None:
        teacher = (folder / home_path(distillation.teacher, "training.distillation.teacher")).resolve()
        distillation = distillation.model_copy(update={"teacher": teacher})
    template = config.cluster.template
    if template is not None:
        template = (folder / home_path(template, "cluster.template")).resolve()
    search = config.search
    if any(map(is_study_file, search.earlier_studies)):
        earlier = [
            str((folder / home_path(item, "search.warm_start")).resolve()) if is_study_file(item) else item
            for item in search.earlier_studies
        ]
        search = search.model_copy(update={"warm_start": earlier})
    return config.model_copy(
        update={
            "cluster": config.cluster.model_copy(update={"template": template}),
            "study": study,
            "targets": targets,
            "search": search,
            "data": data,
            "device": device.model_copy(update={"latency_model": model, "latency_models": models, "board": board}),
            "training": config.training.model_copy(update={"weights": weights, "distillation": distillation}),
        }
    )


def _resolved_target(target: TargetSection, folder: Path) -> TargetSection:
    """Return the target with absolute paths."""

    def resolved(path: Path) -> Path:
        return path if is_reference(str(path)) else (folder / home_path(path, "targets.latency_model")).resolve()

    model = target.latency_model
    models = {precision: resolved(path) for precision, path in target.latency_models.items()}
    return target.model_copy(
        update={"latency_model": None if model is None else resolved(model), "latency_models": models}
    )
