"""mIoU under corruption: which images, with which labels, and in parts as well as at once."""

from __future__ import annotations

import numpy as np

from objectives.corruptions import corrupt
from objectives.data import ArraySplit
from objectives.metrics import ConfusionMatrix
from trial_runner.config.study import RobustnessSection
from trial_runner.training.robustness import CorruptionSample

SECTION = RobustnessSection(corruptions=["fog", "jpeg"], severity=3, images=20)


def split(count: int) -> ArraySplit:
    """Noise, each image with a label of its own height."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 24, 32, 3)).astype(np.uint8)
    labels = [np.full((48 + index, 64), index % 3, np.uint8) for index in range(count)]
    return ArraySplit(images, images[..., 0], labels)


class Watcher:
    """A network that is always right, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[np.ndarray, int]] = []

    def __call__(self, part: ArraySplit) -> ConfusionMatrix:
        matrix = ConfusionMatrix(3)
        for image, label in zip(part.images, part.labels, strict=True):
            self.seen.append((image, label.shape[0] - 48))
            matrix.update(label, label)
        return matrix


def test_each_corruption_is_scored_on_the_same_images_with_their_own_labels():
    whole, watcher = split(41), Watcher()
    sample = CorruptionSample(41, SECTION)
    sample.take(whole.images, whole.labels)
    assert sample.miou(watcher) == {"fog": 1.0, "jpeg": 1.0}
    fog, jpeg = watcher.seen[:20], watcher.seen[20:]
    numbers = [number for _, number in fog]
    assert numbers == [number for _, number in jpeg] and (numbers[0], numbers[-1]) == (0, 40)
    assert len(set(numbers)) == 20
    for image, number in fog:
        assert np.array_equal(image, corrupt(whole.images[number], "fog", 3, seed=number))


def test_a_split_that_comes_in_parts_gives_the_same():
    whole, at_once, in_parts = split(41), Watcher(), Watcher()
    sample = CorruptionSample(41, SECTION)
    sample.take(whole.images, whole.labels)
    sample.miou(at_once)
    parts = [
        ArraySplit(whole.images[a : a + 15], whole.train_labels[a : a + 15], whole.labels[a : a + 15])
        for a in range(0, 41, 15)
    ]
    streamed = CorruptionSample(41, SECTION)
    assert [len(part) for part in streamed.watching(parts)] == [15, 15, 11]
    streamed.miou(in_parts)
    assert [number for _, number in at_once.seen] == [number for _, number in in_parts.seen]
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(at_once.seen, in_parts.seen, strict=True))


def test_a_split_smaller_than_asked_for_is_taken_whole():
    whole, watcher = split(3), Watcher()
    sample = CorruptionSample(3, RobustnessSection())
    sample.take(whole.images, whole.labels)
    assert list(sample.miou(watcher)) == ["gaussian_noise", "motion_blur", "fog", "jpeg"]
    assert [number for _, number in watcher.seen] == [0, 1, 2] * 4
