"""Splits held in memory, for user-defined data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from objectives.data.base import DatasetError, DatasetInfo, SegmentationData, UInt8Array


class InMemoryData(SegmentationData):
    """Images and labels as arrays.

    Args:
        info: name, classes, palette and ignore index of the data set.
        split: train, val or test.
        images: uint8 (H, W, 3) each, RGB.
        labels: uint8 (H, W) each, of the same size: class ids below ``info.num_classes``, or ``info.ignore_index``.

    Raises:
        DatasetError: as many labels as images are not given, or none at all.
    """

    def __init__(
        self, info: DatasetInfo, split: str, images: Sequence[UInt8Array], labels: Sequence[UInt8Array]
    ) -> None:
        super().__init__(info, split)
        if not len(images) == len(labels) > 0:
            raise DatasetError(
                f"the split {split} of {info.name} has {len(images)} images and {len(labels)} labels; it needs one label for each image."
            )
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        """The image's number."""
        self._require(index)
        return f"{index:05d}"

    def pair(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        """See `SegmentationData.pair`."""
        self._require(index)
        image, label = np.asarray(self._images[index]), np.asarray(self._labels[index])
        where = f"image {index} of the split {self.split} of {self.info.name}"
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DatasetError(f"{where} must be uint8 (H, W, 3), but is {image.dtype} {image.shape}.")
        if label.dtype != np.uint8 or label.shape != image.shape[:2]:
            raise DatasetError(
                f"the label of {where} must be uint8 {image.shape[:2]}, but is {label.dtype} {label.shape}."
            )
        wrong = label[(label >= self.info.num_classes) & (label != self.info.ignore_index)]
        if wrong.size:
            raise DatasetError(
                f"the label of {where} holds {int(wrong[0])}; class ids go from 0 to {self.info.num_classes - 1}, "
                f"and {self.info.ignore_index} is ignored."
            )
        return image, label

    def label_hw(self, index: int) -> tuple[int, int]:
        """See `SegmentationData.label_hw`."""
        self._require(index)
        height, width = np.asarray(self._labels[index]).shape[:2]
        return int(height), int(width)

    def check(self) -> None:
        """See `SegmentationData.check`."""
        if all((self.pair(index)[1] == self.info.ignore_index).all() for index in range(len(self))):
            raise DatasetError(f"no label of the split {self.split} of {self.info.name} holds a class.")

    def _require(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")

    def _identity(self) -> list[Any]:
        digest = hashlib.sha256()
        for index in range(len(self)):
            for array in self.pair(index):
                digest.update(str(array.shape).encode() + array.tobytes())
        return [digest.hexdigest()]
