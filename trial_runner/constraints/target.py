"""Whether the target takes what a search space offers, and this machine trains as it is told: said before anything is trained."""

from __future__ import annotations

import torch

from exports.profiles import DeviceProfile
from search_spaces import SearchSpace, UserError
from trial_runner.config.study import StudyConfig


def check_accelerator(config: StudyConfig) -> None:
    """Refuse ``training.device: cuda`` where trials would find no GPU; what the nodes of another cluster have is seen there.

    Raises:
        UserError: torch sees none on this machine.
    """
    wanted = config.training.device == "cuda" and config.compute.ray_address is None
    if wanted and not torch.cuda.is_available():
        raise UserError(
            "training.device is cuda, but torch sees no GPU here. Set it to auto or cpu, or install the driver and a CUDA build of torch."
        )


def check_target(space: SearchSpace, profile: DeviceProfile) -> None:
    """Refuse a space whose networks the target could not run.

    Raises:
        UserError: some of its networks resize features in a way that the target has not.
    """
    if profile.resize_modes is None:
        return
    refused = space.resize_modes() - set(profile.resize_modes)
    if refused:
        raise UserError(
            f"{profile.name} resizes by {' and '.join(profile.resize_modes)} only, but the search space {space.name} offers "
            f"{' and '.join(sorted(refused))}. Leave that out of space.upsamplings."
        )
