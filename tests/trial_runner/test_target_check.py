"""A space whose networks a target cannot run is refused before anything is trained."""

from __future__ import annotations

import pytest

from exports import get_profile
from search_spaces import UserError, get_space
from trial_runner.target_check import check_target


def test_bicubic_upsampling_is_for_targets_that_take_it() -> None:
    space = get_space("encoder_decoder", {"upsamplings": ["bilinear", "bicubic"]})
    check_target(space, get_profile("local-cpu"))
    with pytest.raises(UserError, match=r"jetson-nano resizes by nearest and linear only.*cubic.*space\.upsamplings"):
        check_target(space, get_profile("jetson-nano"))


@pytest.mark.parametrize("name", ["encoder_decoder", "mobile_stages", "references"])
def test_the_spaces_as_they_come_suit_the_nano(name: str) -> None:
    check_target(get_space(name, {}), get_profile("jetson-nano"))
