"""mIoU and Dice of a split in one pass over its images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.dice import MeanImageDice
from objectives.metrics import ConfusionMatrix

IntArray = npt.NDArray[np.integer[Any]]


class SplitScores:
    """Accumulated scores of a network on a split.

    Attributes:
        matrix: confusion matrix of the whole split, for mIoU.
        dice: mean Dice by image, as LPCVC defines it.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        """Raise ValueError as `ConfusionMatrix` does."""
        self.matrix = ConfusionMatrix(num_classes, ignore_index)
        self.dice = MeanImageDice(num_classes, ignore_index)

    def update(self, pred: IntArray, label: IntArray) -> None:
        """Add one image: class ids (H, W) each, of the same shape. Raises as `ConfusionMatrix.update` does."""
        image = ConfusionMatrix(self.matrix.num_classes, self.matrix.ignore_index)
        image.update(pred, label)
        self.matrix.merge(image)
        self.dice.add(image)

    def all_reduced(self, all_reduce: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> SplitScores:
        """Return the scores of the whole split from the parts of all processes; ``all_reduce`` sums an array over them."""
        whole = SplitScores(self.matrix.num_classes, self.matrix.ignore_index)
        whole.matrix = ConfusionMatrix.of(all_reduce(self.matrix.counts), self.matrix.ignore_index)
        whole.dice.add_totals(all_reduce(self.dice.totals))
        return whole
