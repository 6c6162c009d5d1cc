"""Whether a target takes what a search space offers: said before anything is trained."""

from __future__ import annotations

from exports.profiles import DeviceProfile
from search_spaces import SearchSpace, UserError


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
