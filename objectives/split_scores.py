"""mIoU and Dice of a split in one pass: each image's confusion matrix is counted once and serves both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.dice import MeanImageDice
from objectives.metrics import ConfusionMatrix

IntArray = npt.NDArray[np.integer[Any]]


class SplitScores:
    """What the maps of a split say of a network.

    Attributes:
        matrix: counts of the whole split, for mIoU.
        dice: of each image, as LPCVC takes it.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        """Raises ValueError as `ConfusionMatrix` does."""
        self.matrix = ConfusionMatrix(num_classes, ignore_index)
        self.dice = MeanImageDice(num_classes, ignore_index)

    def update(self, pred: IntArray, label: IntArray) -> None:
        """Add one image: class ids (H, W) each, of the same shape. Raises as `ConfusionMatrix.update` does."""
        image = ConfusionMatrix(self.matrix.num_classes, self.matrix.ignore_index)
        image.update(pred, label)
        self.matrix.merge(image)
        self.dice.add(image)

    def shared(self, add_up: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> SplitScores:
        """Those of the whole split, where each process counted a part: ``add_up`` sums an array over the processes."""
        whole = SplitScores(self.matrix.num_classes, self.matrix.ignore_index)
        whole.matrix = ConfusionMatrix.of(add_up(self.matrix.counts), self.matrix.ignore_index)
        whole.dice.add_totals(add_up(self.dice.totals))
        return whole
