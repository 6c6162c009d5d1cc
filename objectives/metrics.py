"""Class-mean IoU from one confusion matrix over a whole split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces._common.confusion import IntArray, class_iou, confusion_counts, mean_iou


@dataclass(frozen=True)
class ClassReport:
    """What one confusion matrix says, in words that may be shown.

    Attributes:
        miou: mean of the IoU of the classes that occur, 0 to 1; NaN when none does.
        class_iou: IoU by class in the data set's order; None for a class absent from labels and predictions.
        absent: names of the classes left out of the mean, because neither labels nor predictions hold them.
        pixel_accuracy: share of counted pixels that are right, 0 to 1; NaN without pixels. Never the headline: a large
            class hides all others in it.
        pixels: pixels counted, ignored ones excluded.
    """

    miou: float
    class_iou: tuple[float | None, ...]
    absent: tuple[str, ...]
    pixel_accuracy: float
    pixels: int

    def summary(self) -> str:
        """One line, e.g. ``mIoU 0.412 over 11 of 12 classes (absent from labels and predictions: tunnel)``."""
        total = len(self.class_iou)
        text = f"mIoU {self.miou:.3f} over {total - len(self.absent)} of {total} classes"
        return f"{text} (absent from labels and predictions: {', '.join(self.absent)})" if self.absent else text


class ConfusionMatrix:
    """Counts of pixels by (label, prediction), added up over any number of images of any sizes.

    The IoU of a class is TP / (TP + FP + FN) over all pixels of the split, as PASCAL VOC and Cityscapes define it: not
    a mean of per-image values. A class that neither the labels nor the predictions hold has no IoU and is left out of
    the mean; a class that is only predicted counts with 0.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        """Raises ValueError for fewer than one class, or an ignore index that is also a class."""
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if 0 <= ignore_index < num_classes:
            raise ValueError(f"ignore_index {ignore_index} is one of the {num_classes} classes")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], ignore_index: int = 255) -> ConfusionMatrix:
        """The matrix with these counts, (num_classes, num_classes), rows by label."""
        matrix = cls(len(counts), ignore_index)
        matrix._counts += counts
        return matrix

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """A copy of the counts, (num_classes, num_classes): rows are labels, columns are predictions."""
        return self._counts.copy()

    def update(self, pred: IntArray, label: IntArray) -> None:
        """Add one image, or a batch.

        Args:
            pred: class ids, any shape, any integer type.
            label: class ids or ``ignore_index``, of the same shape. Ignored pixels count for nothing.

        Raises:
            TypeError: an array that is not of integers.
            ValueError: shapes differ, or an id is out of range; nothing is added then.
        """
        self._counts += confusion_counts(pred, label, self.num_classes, self.ignore_index)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add another matrix's counts: parts of a split counted apart give the same IoU as the whole."""
        if (self.num_classes, self.ignore_index) != (other.num_classes, other.ignore_index):
            raise ValueError("only matrices with the same classes and ignore index can be merged")
        self._counts += other._counts

    def iou(self) -> npt.NDArray[np.float64]:
        """IoU by class, (num_classes,), 0 to 1; NaN for a class absent from both labels and predictions."""
        return class_iou(self._counts)

    def miou(self) -> float:
        """Mean of the IoU of the classes that occur; NaN before the first counted pixel."""
        return mean_iou(self._counts)

    def report(self, class_names: Sequence[str]) -> ClassReport:
        """All of it, with the names of the classes that were left out. ValueError for a wrong number of names."""
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
