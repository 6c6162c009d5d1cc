"""Protocol of user-defined metrics and the predictions they score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pairs = Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]


class SplitPredictions:
    """Predictions of one network on the validation split, at the labels' own resolution.

    Iterating yields (prediction, label) of each image in order, uint8 (H, W) both: class ids, and ``ignore_index`` in labels. The
    network runs again for each iteration, so that no more than a batch is held in memory.

    Attributes:
        confusion: pixels by (label, prediction), int64 (num_classes, num_classes); ignored pixels are not counted.
        ignore_index: label value that counts for nothing.
    """

    def __init__(
        self, predict: Callable[[], Pairs], images: int, confusion: npt.NDArray[np.int64], ignore_index: int
    ) -> None:
        self._predict, self._images = predict, images
        self.confusion, self.ignore_index = confusion, ignore_index

    def __len__(self) -> int:
        return self._images

    def __iter__(self) -> Pairs:
        return self._predict()

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set."""
        return len(self.confusion)


class SegmentationMetric(Protocol):
    """A function that an entry of ``objectives`` names, such as ``mypkg.metrics:boundary_f1``.

    ``metric(split) -> float`` scores a fully trained network.

    Args:
        split: predictions and labels of the validation split, a `SplitPredictions`.

    Returns:
        The score; NaN where the metric is not defined, with which the trial fails.
    """

    def __call__(self, split: SplitPredictions, /) -> float:
        """Score a fully trained network."""
