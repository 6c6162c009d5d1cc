"""A space whose networks a target cannot run is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from exports import get_profile
from search_spaces import UserError, get_space
from trial_runner.config.load import load_config
from trial_runner.launch_checks import check_accelerator, check_target


def test_bicubic_upsampling_is_for_targets_that_take_it() -> None:
    space = get_space("encoder_decoder", {"upsamplings": ["bilinear", "bicubic"]})
    check_target(space, get_profile("local-cpu"))
    with pytest.raises(UserError, match=r"jetson-nano resizes by nearest and linear only.*cubic.*space\.upsamplings"):
        check_target(space, get_profile("jetson-nano"))


@pytest.mark.parametrize("name", ["encoder_decoder", "mobile_stages", "references"])
def test_the_spaces_as_they_come_suit_the_nano(name: str) -> None:
    check_target(get_space(name, {}), get_profile("jetson-nano"))


def test_a_gpu_that_is_not_there_is_told_before_a_trial_fails_on_it() -> None:
    demo = Path(__file__).parents[2] / "configs" / "demo.yaml"
    check_accelerator(load_config(demo))
    config = load_config(demo, ["training.device=cuda"])
    if torch.cuda.is_available():
        check_accelerator(config)
    else:
        with pytest.raises(UserError, match=r"training\.device is cuda, but torch sees no GPU"):
            check_accelerator(config)
    check_accelerator(load_config(demo, ["training.device=cuda", "compute.ray_address=head:6379"]))
