"""Class-mean IoU from one confusion matrix over a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces._common.confusion import IntArray, class_iou, confusion_counts, mean_iou


@dataclass(frozen=True)
class ClassReport:
    """Metrics of one confusion matrix, for display.

    Attributes:
        miou: mean of the IoU of the classes that occur, 0 to 1; NaN when none does.
        class_iou: IoU by class in the data set's order; None for a class absent from labels and predictions.
        absent: names of the classes excluded from the mean, absent from labels and predictions.
        pixel_accuracy: share of correct pixels, 0 to 1; NaN without pixels. Dominated by large classes.
        pixels: number of pixels, without ignored ones.
    """

    miou: float
    class_iou: tuple[float | None, ...]
    absent: tuple[str, ...]
    pixel_accuracy: float
    pixels: int

    def summary(self) -> str:
        """Return one line, e.g. ``mIoU 0.412 over 11 of 12 classes (absent from labels and predictions: tunnel)``."""
        total = len(self.class_iou)
        text = f"mIoU {self.miou:.3f} over {total - len(self.absent)} of {total} classes"
        return f"{text} (absent from labels and predictions: {', '.join(self.absent)})" if self.absent else text


class ConfusionMatrix:
    """Pixel counts by (label, prediction), accumulated over images of any sizes.

    The IoU of a class is TP / (TP + FP + FN) over all pixels of the split, as PASCAL VOC and Cityscapes define it: not
    a mean of per-image values. A class absent from labels and predictions has no IoU and is excluded from the mean; a class that is
    only predicted counts as 0.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        """Raise ValueError for fewer than one class, or an ignore index that is also a class."""
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if 0 <= ignore_index < num_classes:
            raise ValueError(f"ignore_index {ignore_index} is one of the {num_classes} classes")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], ignore_index: int = 255) -> ConfusionMatrix:
        """Return the matrix with these counts, (num_classes, num_classes), rows by label."""
        matrix = cls(len(counts), ignore_index)
        matrix._counts += counts
        return matrix

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Copy of the counts, int64 (num_classes, num_classes): rows are labels, columns predictions."""
        return self._counts.copy()

    def update(self, pred: IntArray, label: IntArray) -> None:
        """Add one image, or a batch.

        Args:
            pred: class ids, any shape, any integer type.
            label: class ids or ``ignore_index``, of the same shape; ignored pixels are not counted.

        Raises:
            TypeError: an array that is not of integers.
            ValueError: shapes differ, or an id is out of range; nothing is added then.
        """
        self._counts += confusion_counts(pred, label, self.num_classes, self.ignore_index)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another part of the split.

        Raises:
            ValueError: classes or ignore index differ.
        """
        if (self.num_classes, self.ignore_index) != (other.num_classes, other.ignore_index):
            raise ValueError("only matrices with the same classes and ignore index can be merged")
        self._counts += other._counts

    def iou(self) -> npt.NDArray[np.float64]:
        """Return the IoU by class, float64 (num_classes,), 0 to 1; NaN for a class absent from labels and predictions."""
        return class_iou(self._counts)

    def miou(self) -> float:
        """Return the mean IoU of the classes that occur; NaN before the first counted pixel."""
        return mean_iou(self._counts)

    def report(self, class_names: Sequence[str]) -> ClassReport:
        """Return all metrics with class names.

        Raises:
            ValueError: the number of names is not that of the classes.
        """
        if len(class_names) != self.num_classes:
            raise ValueError(f"{len(class_names)} class names for {self.num_classes} classes")
        values = [None if np.isnan(value) else float(value) for value in self.iou()]
        pixels = int(self._counts.sum())
        return ClassReport(
            miou=self.miou(),
            class_iou=tuple(values),
            absent=tuple(name for name, value in zip(class_names, values, strict=True) if value is None),
            pixel_accuracy=float(np.trace(self._counts) / pixels) if pixels else float("nan"),
            pixels=pixels,
        )
