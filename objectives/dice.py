"""Dice and score of LPCVC 2023 as its referee computes them: one confusion matrix per image, not per split."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.metrics import ConfusionMatrix


class MeanImageDice:
    """Mean over images of the mean Dice over classes.

    Per image and class Dice is 2 TP / (labelled + predicted pixels). A class absent from label and prediction of an image is excluded
    from that image's mean; one predicted in a single pixel only counts as 0. Label values that are no class are masked out
    (nano_code of lpcvai/2023-LPCVC-Referee).
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        """Raise ValueError as `ConfusionMatrix` does."""
        ConfusionMatrix(num_classes, ignore_index)
        self._num_classes, self._ignore_index = num_classes, ignore_index
        self._sum, self._images = 0.0, 0

    def update(self, pred: npt.NDArray[np.integer[Any]], label: npt.NDArray[np.integer[Any]]) -> None:
        """Add one image: class ids (H, W) each, of the same shape. Raises as `ConfusionMatrix.update` does."""
        matrix = ConfusionMatrix(self._num_classes, self._ignore_index)
        matrix.update(pred, label)
        self.add(matrix)

    def add(self, image: ConfusionMatrix) -> None:
        """Add the confusion matrix of one image."""
        counts = image.counts
        both = (counts.sum(axis=0) + counts.sum(axis=1)).astype(np.float64)
        present = both > 0
        if present.any():
            self._sum += float(np.mean(2.0 * np.diag(counts)[present] / both[present]))
            self._images += 1

    @property
    def totals(self) -> npt.NDArray[np.float64]:
        """Sum of the images' Dice and their number, float64 (2,); additive over parts of a split."""
        return np.array([self._sum, self._images], dtype=np.float64)

    def add_totals(self, totals: npt.NDArray[np.float64]) -> None:
        """Add the ``totals`` of another part of the split."""
        self._sum += float(totals[0])
        self._images += round(float(totals[1]))

    @property
    def images(self) -> int:
        """Number of images with at least one pixel that is not ignored."""
        return self._images

    @property
    def value(self) -> float:
        """Mean Dice, 0 to 1; NaN before the first image."""
        return self._sum / self._images if self._images else float("nan")


def lpcvc_score(mean_dice: float, seconds: float, images: int) -> float:
    """Return ``mean_dice / (seconds / images)``, in 1/s.

    The referee divides by 600, the size of its test set, for any number of images; here the actual number is used.

    Raises:
        ValueError: no image, or no time.
    """
    if images < 1 or not seconds > 0:
        raise ValueError(f"a score needs images and seconds, got {images} images in {seconds} s")
    return mean_dice / (seconds / images)
