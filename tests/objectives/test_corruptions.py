"""The corruption set: the same for every network, worse with each severity, and the same thing at every size."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest

from objectives.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from search_spaces._common.errors import UserError
from trial_runner.config.study import RobustnessSection


def picture(height: int, width: int) -> np.ndarray:
    """Bars, a gradient and a disc: edges for blurs, flat parts for noise."""
    y, x = np.mgrid[0:height, 0:width] / height
    image = np.stack([(x * 6 % 1 > 0.5) * 0.8, y, np.hypot(x - 0.5, y - 0.5) < 0.3], axis=2)
    return (40 + 170 * image).astype(np.uint8)


def error(image: np.ndarray, changed: np.ndarray) -> float:
    return float(np.sqrt(np.mean((changed.astype(float) - image.astype(float)) ** 2)))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_is_the_same_each_time_keeps_the_size_and_grows_with_the_severity(name: str):
    image = picture(97, 131)
    before = image.copy()
    changed = [corrupt(image, name, severity, seed=3) for severity in SEVERITIES]
    assert all(item.shape == image.shape and item.dtype == np.uint8 for item in changed)
    assert np.array_equal(changed[1], corrupt(image, name, 2, seed=3)) and np.array_equal(image, before)
    errors = [error(image, item) for item in changed]
    assert errors[0] > 1.0 and errors[-1] > 1.1 * errors[0], errors
    assert all(later > 0.9 * earlier for earlier, later in itertools.pairwise(errors)), errors


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "fog", "motion_blur"])
def test_what_is_drawn_depends_on_the_seed(name: str):
    image = picture(64, 96)
    assert not np.array_equal(corrupt(image, name, 3, seed=0), corrupt(image, name, 3, seed=1))


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "fog", "contrast", "brightness"])
def test_a_severity_means_the_same_at_every_resolution(name: str):
    small, large = (error(picture(h, 2 * h), corrupt(picture(h, 2 * h), name, 3, seed=0)) for h in (112, 224))
    assert small == pytest.approx(large, rel=0.25)


def test_black_and_white_images_stay_in_range():
    for value in (0, 255):
        image = np.full((40, 56, 3), value, np.uint8)
        for name in CORRUPTIONS:
            assert corrupt(image, name, 5, seed=0).shape == image.shape


def test_a_study_offers_exactly_these():
    offered = get_args(get_args(RobustnessSection.model_fields["corruptions"].annotation)[0])
    assert offered == tuple(CORRUPTIONS)
    with pytest.raises(UserError, match="did you mean 'motion_blur'"):
        corrupt(picture(32, 32), "motion", 1, seed=0)
    with pytest.raises(ValueError, match="a severity is one of"):
        corrupt(picture(32, 32), "fog", 6, seed=0)
