"""Confusion matrix of class ids and the IoU derived from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]


def confusion_counts(
    pred: IntArray, label: IntArray, num_classes: int, ignore_index: int = 255
) -> npt.NDArray[np.int64]:
    """Count pixels by (label, prediction).

    Args:
        pred: class ids, any shape, any integer type.
        label: class ids or ``ignore_index``, of the same shape. Ignored pixels are not counted.

    Returns:
        Counts (num_classes, num_classes): rows are labels, columns are predictions.

    Raises:
        TypeError: an array that is not of integers.
        ValueError: shapes differ, or an id is out of range.
    """
    for name, array in (("pred", pred), ("label", label)):
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"{name} must hold integer class ids, got {array.dtype}; take the argmax first")
    if pred.shape != label.shape:
        raise ValueError(f"pred has shape {pred.shape} but label has {label.shape}; bring both to the label's size")
    if pred.size == 0:
        return np.zeros((num_classes, num_classes), np.int64)
    _check_range("pred", pred, num_classes)
    kept = label != ignore_index
    true = label[kept].astype(np.int64)
    if true.size:
        _check_range("label", true, num_classes)
    counts = np.bincount(true * num_classes + pred[kept], minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_iou(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """IoU by class, TP / (TP + FP + FN), (num_classes,), 0 to 1; NaN for a class absent from labels and predictions."""
    hits = np.diag(counts).astype(np.float64)
    union = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    iou = np.full(len(counts), np.nan)
    np.divide(hits, union, out=iou, where=union > 0)
    return iou


def mean_iou(counts: npt.NDArray[np.int64]) -> float:
    """Mean of `class_iou` over the classes that occur; NaN when none does."""
    present = class_iou(counts)
    present = present[~np.isnan(present)]
    return float(present.mean()) if present.size else float("nan")


def _check_range(name: str, values: IntArray, num_classes: int) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise ValueError(f"{name} holds class id {wrong}; valid are 0 to {num_classes - 1}")
