"""Robust mIoU on corrupted validation images (ImageNet-C corruptions)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from objectives.corruptions import corrupt
from objectives.data import ArraySplit
from objectives.metrics import ConfusionMatrix
from objectives.objective import ROBUST
from trial_runner.config.study import RobustnessSection, StudyConfig

_TOGETHER = 16

Images = NDArray[np.uint8]


def needs_robustness(config: StudyConfig) -> bool:
    """Return True if robust_miou is an objective; else it is skipped: it costs one evaluation per corruption."""
    return any(objective.name == ROBUST for objective in config.objectives)


class CorruptionSample:
    """Up to ``section.images`` of a split's ``total`` images, evenly spread over it: the same for every network.

    Images are corrupted at the network's input resolution; the randomness is that of the image's number in the split.
    """

    def __init__(self, total: int, section: RobustnessSection) -> None:
        self._section = section
        self._wanted = np.linspace(0, total - 1, min(section.images, total)).round().astype(int).tolist()
        self._taken: dict[int, tuple[Images, Images]] = {}

    def take(self, images: Images, labels: Sequence[Images] | Images, first: int = 0) -> None:
        """Keep the sampled images of a part: uint8 (n, h, w, 3), numbered from ``first``; labels (H, W) each."""
        for number in self._wanted:
            if first <= number < first + len(images):
                at = number - first  # copies: a view would keep all the images that came with it
                self._taken[number] = np.array(images[at]), np.array(labels[at])

    def watching(self, parts: Iterable[ArraySplit]) -> Iterator[ArraySplit]:
        """Yield the parts of the split unchanged, in order, and keep the sampled images."""
        first = 0
        for part in parts:
            self.take(part.images, part.labels, first)
            first += len(part)
            yield part

    def miou(self, confusion: Callable[[ArraySplit], ConfusionMatrix]) -> dict[str, float]:
        """Return mIoU by corruption; ``confusion`` computes the confusion matrix of the network on a part."""
        return {name: self._matrix(name, confusion).miou() for name in self._section.corruptions}

    def _matrix(self, name: str, confusion: Callable[[ArraySplit], ConfusionMatrix]) -> ConfusionMatrix:
        numbers = sorted(self._taken)
        matrices = [
            confusion(self._part(name, numbers[at : at + _TOGETHER])) for at in range(0, len(numbers), _TOGETHER)
        ]
        for matrix in matrices[1:]:
            matrices[0].merge(matrix)
        return matrices[0]

    def _part(self, name: str, numbers: Sequence[int]) -> ArraySplit:
        severity = self._section.severity
        images = np.stack([corrupt(self._taken[number][0], name, severity, seed=number) for number in numbers])
        return ArraySplit(images, images[:0, :, :, 0], [self._taken[number][1] for number in numbers])
