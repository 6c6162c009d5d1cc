"""Checks before a launch: disk, data, the target's limits and the training device."""

from __future__ import annotations

import shutil
from pathlib import Path

import optuna
import torch

from exports.profiles import DeviceProfile
from objectives.data import DatasetInfo
from objectives.trial_record import CONFIG, study_attributes
from search_spaces import SearchSpace, UserError
from search_spaces._common.files import atomic_path, write_error
from trial_runner.config.compatibility import with_stored_sampler
from trial_runner.config.study import StudyConfig
from trial_runner.study.objectives import stored_study
from trial_runner.study.storage import require_comparable, require_own
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


def check_earlier(config: StudyConfig) -> tuple[StudyConfig, optuna.Study | None]:
    """Refuse to go on with a study of this name that another program made, or that its trials could not be compared in.

    Returns:
        The configuration with the sampler that the study was begun with, where it names none; and the study, None without one.

    Raises:
        UserError: the study cannot be continued with this configuration.
    """
    earlier = stored_study(config)
    if earlier is not None:
        config = with_stored_sampler(study_attributes(earlier).get(CONFIG), config)
        require_own(earlier)
        require_comparable(config, earlier)
    return config, earlier


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
