"""`paretoseg doctor`: checks of everything a launch needs, each with the next step where it fails."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hw_latency_model.agent.cores import available_cores, core_limits
from search_spaces import open_space
from search_spaces._common.errors import UserError
from trial_runner.config.study import StudyConfig

Verdict = Literal["ok", "note", "FAIL"]
_SHARED_MEMORY = Path("/dev/shm")
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "torch-pruning",
    "onnx",
    "onnxruntime",
    "optuna",
    "ray",
    "optuna-dashboard",
)


@dataclass(frozen=True)
class Finding:
    verdict: Verdict
    subject: str
    text: str


def examine(config: StudyConfig | None) -> list[Finding]:
    """Return the findings about this machine and, where given, about a study. Never raises for a finding."""
    findings = [_python(), *(_package(name) for name in _PACKAGES), _networks(), _accelerator(), _cores(), _tensorrt()]
    findings += [_home(), _shared_memory()]
    if config is None or config.compute.backend == "ray":
        findings += _ray(None if config is None else config.compute.ray_address)
    if config is None:
        return [*findings, _room(Path.cwd())]
    checks: list[tuple[str, Callable[[StudyConfig], str]]] = [
        ("output_dir", _output),
        ("data", _data),
        ("space", _space),
        ("weights", _weights),
        ("training device", _training_device),
        ("device", _device),
        ("latency model", _latency_model),
        ("objectives", _objectives),
        ("search", _search),
        ("storage", _storage),
    ]
    if config.training.distillation.teacher is not None:
        checks.append(("teacher", _teacher))
    if config.study.tracking:
        checks.append(("tracking", _tracking))
    for subject, check in checks:
        findings.append(_checked(subject, check, config))
        if subject == "data" and findings[-1].verdict == "ok":
            findings += _data_warnings(config)
        if subject == "storage":
            findings += _storage_warnings(config)
    return findings


def _checked(subject: str, check: Callable[[StudyConfig], str], config: StudyConfig) -> Finding:
    try:
        return Finding("ok", subject, check(config))
    except UserError as error:
        return Finding("FAIL", subject, str(error))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Finding("ok" if good else "FAIL", "python", version if good else f"{version}; 3.11 or newer is needed")


def _package(name: str) -> Finding:
    try:
        return Finding("ok", name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding("FAIL", name, "not installed; run: pip install paretoseg")


def _networks() -> Finding:
    try:
        space = importlib.import_module("search_spaces").get_space("encoder_decoder", {})
        space.build(space.default(), 2)
    except (ImportError, RuntimeError, OSError) as error:
        return Finding(
            "FAIL",
            "torch and timm together",
            f"{str(error).splitlines()[0]}; install torch and torchvision of one build",
        )
    return Finding("ok", "torch and timm together", "a network was built")


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("ok", "gpu", f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    why = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
    return Finding("note", "gpu", f"none{why}: trials train on the CPU; keep images small")


def _cores() -> Finding:
    cores, machine = available_cores(), os.cpu_count() or 1
    if cores >= machine:
        return Finding("ok", "cpu", f"{cores} cores")
    limit = min(core_limits(), key=lambda limit: limit.cores)
    return Finding("ok", "cpu", f"{cores} of {machine} cores, by {limit.source} ({limit.cores:g})")


def _tensorrt() -> Finding:
    try:
        return Finding("ok", "tensorrt", importlib.metadata.version("tensorrt"))
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "note", "tensorrt", "not installed: engines are built on the device itself; ONNX is exported here"
        )


def _home() -> Finding:
    home = os.environ.get("HOME", "")
    if home and os.access(home, os.W_OK | os.X_OK):
        return Finding("ok", "home", home)
    text = f"{home} cannot be written" if home else "HOME is not set"
    return Finding(
        "note",
        "home",
        f"{text}: downloaded weights need HF_HOME, set to a folder that can be; nothing else is kept there",
    )


def _shared_memory() -> Finding:
    try:
        free_mb = shutil.disk_usage(_SHARED_MEMORY).free / 1e6
    except OSError:
        free_mb = 0.0
    if free_mb >= 1 and os.access(_SHARED_MEMORY, os.W_OK):
        return Finding("ok", "shared memory", f"{free_mb:.0f} MB free in {_SHARED_MEMORY}")
    return Finding(
        "note",
        "shared memory",
        f"{_SHARED_MEMORY} is full or cannot be written: exports run in the driver itself, which trials wait for",
    )


def _ray(address: str | None) -> list[Finding]:
    from trial_runner.backends.ray_session import foreign_variables, make_session_folder
    from trial_runner.backends.ray_watch import listener, listens

    try:
        folder = make_session_folder()
    except UserError as error:
        return [Finding("FAIL", "folder for Ray", str(error))]
    folder.rmdir()
    at = listener(address)
    if at is not None and not listens(at):
        text = (
            f"no Ray cluster answers at {address}; start it with `ray start --head`, or leave compute.ray_address out"
        )
        return [Finding("FAIL", "Ray cluster", text)]
    findings = [Finding("ok", "folder for Ray", f"{folder.parent}, below which a launch makes its own and removes it")]
    foreign = ", ".join(foreign_variables())
    if foreign and address is None:
        findings.append(
            Finding(
                "note",
                "Ray's variables",
                f"{foreign}: ignored, a launch starts its own Ray; set compute.ray_address to join one",
            )
        )
    return findings


def _room(folder: Path) -> Finding:
    free_gb = shutil.disk_usage(folder).free / 1e9
    return Finding("ok" if free_gb > 1 else "FAIL", "disk", f"{free_gb:.0f} GB free in {folder}")


def _output(config: StudyConfig) -> str:
    from trial_runner.launch_checks import check_room

    check_room(config.study.output_dir)
    return (
        f"{config.study.output_dir} can be written, {shutil.disk_usage(config.study.output_dir).free / 1e9:.0f} GB free"
    )


def _data(config: StudyConfig) -> str:
    from trial_runner.study.objectives import stored_study
    from trial_runner.study.paths import StudyPaths
    from trial_runner.study.storage import StorageError
    from trial_runner.study_data import judged, require_same_data, survey_data

    data = survey_data(config)
    with suppress(StorageError):  # which has a line of its own
        study = stored_study(config)
        if study is not None:
            require_same_data(study, StudyPaths(config.study.output_dir), data.info, data.surveys)
    judged(config, data)
    counts = " and ".join(f"{len(survey.digests)} images to {survey.split}" for survey in data.surveys)
    held = f", {counts}" if counts else ""
    return f"{config.data.kind}, {len(data.info.class_names)} classes{held}, every file readable"


def _data_warnings(config: StudyConfig) -> list[Finding]:
    from trial_runner.study_data import examine_data

    return [Finding("note", "data", warning) for warning in examine_data(config).warnings]  # read from the cache


def _storage_warnings(config: StudyConfig) -> list[Finding]:
    from trial_runner.study.write_ahead_log import no_log_here

    refusal = no_log_here(config.study.storage)
    return [] if refusal is None else [Finding("note", "storage", refusal)]


def _space(config: StudyConfig) -> str:
    from exports import get_profile
    from trial_runner.launch_checks import check_target

    space = open_space(config.space)
    check_target(space, get_profile(config.device.name))
    return f"{config.space.name} with {len(space.dimensions)} dimensions"


def _weights(config: StudyConfig) -> str:
    from search_spaces.pretrained import check_source

    check_source(config.training.weights)
    return {"none": "every network starts from random weights"}.get(config.training.weights, config.training.weights)


def _training_device(config: StudyConfig) -> str:
    from trial_runner.launch_checks import check_accelerator

    check_accelerator(config)
    return config.training.device


def _device(config: StudyConfig) -> str:
    from exports import get_profile

    return get_profile(config.device.name).description


def _latency_model(config: StudyConfig) -> str:
    from trial_runner.constraints.latency_models import load_latency_models

    return "; ".join(
        str(config.device.model_path(precision)) if model.calibrated else model.provenance
        for precision, model in load_latency_models(config).items()
    )


def _objectives(config: StudyConfig) -> str:
    from objectives.objective import CLASS_IOU
    from trial_runner.constraints.cost import load_cost_models
    from trial_runner.study.objectives import objectives_of
    from trial_runner.training.custom_metrics import load_metrics
    from trial_runner.training.trial import open_split

    # The data are read only for their classes: errors in them are a separate finding.
    names_class = any(item.name.startswith(CLASS_IOU) for item in config.objectives)
    info = open_split(config.data, "val", config.study.seed).info if names_class else None
    found = objectives_of(config, info.class_names if info else ())
    load_cost_models(config, found)
    load_metrics(config)
    return ", ".join(objective.label for objective in found)


def _search(config: StudyConfig) -> str:
    from trial_runner.search.samplers import make_sampler
    from trial_runner.search.warm_start import load_earlier_studies

    make_sampler(config.search, config.study.seed)
    earlier = load_earlier_studies(config, open_space(config.space))
    after = f", after {len(earlier)} earlier studies" if earlier else ""
    return f"{config.search.trials} trials by {config.search.sampler}{after}"


def _teacher(config: StudyConfig) -> str:
    from trial_runner.launch_checks import check_teacher
    from trial_runner.training.trial import open_split

    check_teacher(config, len(open_split(config.data, "val", config.study.seed).info.class_names))
    return str(config.training.distillation.teacher)


def _tracking(config: StudyConfig) -> str:
    from trial_runner.tracking.sinks import check_tracking

    check_tracking(config.study.tracking)
    return ", ".join(config.study.tracking)


def _storage(config: StudyConfig) -> str:
    from objectives.trial_record import read_study
    from search_spaces._common.urls import redact_url
    from trial_runner.launch_checks import check_earlier
    from trial_runner.study.storage import StudyNotFoundError, open_storage
    from trial_runner.study.stored_space import StoredSpace

    try:
        open_storage(config.study.storage, create=False)
        config, earlier = check_earlier(config)
        if earlier is not None:
            trials = earlier.get_trials(deepcopy=False)
            StoredSpace(open_space(config.space), trials).require_resumable(read_study(earlier))
    except StudyNotFoundError:
        return f"{redact_url(config.study.storage)}, to be made by the first launch"
    return redact_url(config.study.storage)
