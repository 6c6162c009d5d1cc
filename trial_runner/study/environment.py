"""Environment of a study's launches: versions of packages, system and processors, stored with the study."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import optuna

from hw_latency_model.agent.cores import available_cores
from objectives.trial_record import store_study_attribute, study_attributes

ENVIRONMENT = "environment"
_PACKAGES = ("paretoseg", "torch", "timm", "optuna", "ray", "onnx", "onnxruntime", "numpy")


def environment_facts() -> dict[str, str]:
    """Return versions, system, cores and GPUs by name. Loads torch."""
    import torch

    facts = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    facts["system"] = f"{platform.system()} {platform.release()}, {platform.machine()}"
    facts["cores"] = f"{available_cores()} of {os.cpu_count() or 1}"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    facts["gpus"] = ", ".join(f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)) or "none"
    return facts


def note_environment(study: optuna.Study) -> None:
    """Store the environment of this launch, in place of that of an earlier one."""
    store_study_attribute(study, ENVIRONMENT, environment_facts())


def environment_of(study: optuna.Study) -> dict[str, str]:
    """Return the environment of the study's last launch; empty for a study of an earlier release."""
    return {str(name): str(fact) for name, fact in study_attributes(study).get(ENVIRONMENT, {}).items()}
