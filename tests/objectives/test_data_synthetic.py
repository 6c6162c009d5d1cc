"""The built-in scenes: deterministic, any size, every class."""

from __future__ import annotations

import numpy as np
import pytest

from objectives.data import DatasetError, SegmentationData, open_dataset
from objectives.data.scenes import THEMES


def scenes(split: str = "train", **options: object) -> SegmentationData:
    return open_dataset(
        "synthetic", root=None, split=split, **{"images": 60, "height_px": 48, "width_px": 64, **options}
    )


def test_same_seed_same_scene_and_otherwise_not() -> None:
    image, label = scenes().pair(3)
    again_image, again_label = scenes(images=4).pair(3)
    np.testing.assert_array_equal(image, again_image)
    np.testing.assert_array_equal(label, again_label)
    for other in (scenes("val"), scenes("test"), scenes(seed=1)):
        assert (other.image(3) != image).mean() > 0.5


@pytest.mark.parametrize("size", [(32, 32), (96, 128), (250, 130), (33, 200)])
def test_any_size(size: tuple[int, int]) -> None:
    data = scenes(height_px=size[0], width_px=size[1], images=len(THEMES))
    for index in range(len(data)):
        image, label = data.pair(index)
        assert image.shape == (*size, 3)
        assert label.shape == size == data.label_hw(index)
        assert image.dtype == label.dtype == np.uint8


def test_sixty_scenes_hold_all_classes_and_each_holds_several() -> None:
    data = scenes()
    data.check()
    present = [set(np.unique(data.label(index)).tolist()) for index in range(len(data))]
    assert set().union(*present) == set(range(14))
    assert data.info.num_classes == 14
    counts = [len(classes) for classes in present]
    assert 4 <= np.median(counts) <= 9
    for class_id in range(14):
        assert sum(class_id in classes for classes in present) >= 3


def test_options_that_make_no_sense() -> None:
    for options in ({"images": 0}, {"height_px": 8}, {"seed": -1}, {"images": "ten"}):
        with pytest.raises(DatasetError, match=next(iter(options))):
            scenes(**options)
    with pytest.raises(IndexError):
        scenes().pair(60)
