"""Checks before a launch: disk, data, the target's limits and the training device."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from exports.profiles import DeviceProfile
from objectives.data import DatasetInfo
from search_spaces import SearchSpace, UserError
from search_spaces._common.files import atomic_path, write_error
from trial_runner.config.study import StudyConfig
from trial_runner.study_data import examine_data
from trial_runner.training.distillation import read_teacher

_LEAST_FREE_MB = 200


def check_room(folder: Path) -> None:
    """Raise UserError unless the folder can be created, is writable, and has space for a study."""
    try:
        with atomic_path(folder / ".writable") as temporary:
            temporary.write_text("")
        (folder / ".writable").unlink(missing_ok=True)
        free_mb = shutil.disk_usage(folder).free / 1e6
    except OSError as error:
        raise write_error(folder, error) from error
    if free_mb < _LEAST_FREE_MB:
        raise UserError(
            f"{folder} has {free_mb:.0f} MB left; a study needs {_LEAST_FREE_MB} MB at least. "
            "Free some space or set study.output_dir to another disk."
        )


def check_data(config: StudyConfig) -> DatasetInfo:
    """Return the data set's facts after `examine_data`."""
    return examine_data(config).info


def check_accelerator(config: StudyConfig) -> None:
    """Refuse ``training.device: cuda`` without a GPU here; nodes of a cluster check it themselves.

    Raises:
        UserError: torch sees none on this machine.
    """
    wanted = config.training.device == "cuda" and config.compute.ray_address is None
    if wanted and not torch.cuda.is_available():
        raise UserError(
            "training.device is cuda, but torch sees no GPU here. Set it to auto or cpu, or install the driver and a CUDA build of torch."
        )


def check_target(space: SearchSpace, profile: DeviceProfile) -> None:
    """Refuse a space whose networks the target cannot run.

    Raises:
        UserError: some of its networks use a resize mode that the target does not support.
    """
    if profile.resize_modes is None:
        return
    refused = space.resize_modes() - set(profile.resize_modes)
    if refused:
        raise UserError(
            f"{profile.name} resizes by {' and '.join(profile.resize_modes)} only, but the search space {space.name} offers "
            f"{' and '.join(sorted(refused))}. Leave that out of space.upsamplings."
        )


def check_teacher(config: StudyConfig, num_classes: int) -> None:
    """Refuse a ``training.distillation.teacher`` that no trial could learn from.

    Raises:
        UserError: there is no network, or it has other classes than the data.
    """
    if config.training.distillation.teacher is not None:
        read_teacher(config.training.distillation.teacher, num_classes)
