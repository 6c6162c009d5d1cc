"""Interface of data sets: images, labels, class names, and a check before training."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces._common.errors import UserError
from search_spaces._common.palette import Palette

UInt8Array = npt.NDArray[np.uint8]

SPLITS = ("train", "val", "test")
IGNORE_INDEX = 255
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DatasetError(UserError):
    """Error in a data set's folder, file or option; the message names it and the remedy, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(message.replace("\r", "\\r").replace("\n", "\\n"))  # a file's name may hold them


@dataclass(frozen=True)
class Normalisation:
    """Normalisation of a network's input: per channel (RGB), for images scaled to 0..1."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


IMAGENET = Normalisation()


@dataclass(frozen=True)
class DatasetInfo:
    """Facts shared by all splits of a data set.

    Attributes:
        name: kind of data set, as in the study's YAML.
        class_names: one name per class id, in order.
        palette: RGB of each class, 0 to 255, for pictures.
        ignore_index: label value excluded from the loss and from mIoU.
        mean, std: per channel (RGB), of images scaled to 0..1, that the network's input is normalised with.
    """

    name: str
    class_names: tuple[str, ...]
    palette: Palette
    ignore_index: int = IGNORE_INDEX
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if len(self.palette) != len(self.class_names):
            raise ValueError(f"{len(self.palette)} colours for {len(self.class_names)} classes of {self.name}")

    @property
    def normalisation(self) -> Normalisation:
        """Normalisation of a network's input."""
        return Normalisation(tuple(self.mean), tuple(self.std))

    @property
    def num_classes(self) -> int:
        """Number of classes, without the ignored label."""
        return len(self.class_names)


class SegmentationData(ABC):
    """One split of a data set; an index outside ``range(len(data))`` raises IndexError."""

    def __init__(self, info: DatasetInfo, split: str) -> None:
        self.info = info
        self.split = split

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the image's path relative to the split's folder, without suffix."""

    @abstractmethod
    def pair(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        """Return the image, uint8 (H, W, 3) RGB, and the label, uint8 (H, W), of the same height and width.

        Label values are class ids below ``info.num_classes``, or ``info.ignore_index``.

        Raises:
            DatasetError: a file cannot be read or breaks a rule of ``check``.
        """

    @abstractmethod
    def label_hw(self, index: int) -> tuple[int, int]:
        """Return the label's height and width in pixels without decoding it."""

    @abstractmethod
    def check(self) -> None:
        """Validate every file of the split before training.

        Raises:
            DatasetError: the first file, in order, that is missing, truncated, undecodable, mis-sized, has colours
                for class ids, or holds an id out of range; or the split has no labelled pixel at all.
        """

    @abstractmethod
    def _identity(self) -> list[Any]:
        """Return JSON values that change whenever an image or label may have changed."""

    def image(self, index: int) -> UInt8Array:
        """Return the image, uint8 (H, W, 3), RGB."""
        return self.pair(index)[0]

    def label(self, index: int) -> UInt8Array:
        """Return the label, uint8 (H, W): class ids, or ``info.ignore_index``."""
        return self.pair(index)[1]

    def fingerprint(self) -> str:
        """Return 16 hex digits, a hash of names, sizes, modification times and options."""
        facts = [self.info.name, self.split, list(self.info.class_names), self.info.ignore_index, self._identity()]
        return hashlib.sha256(json.dumps(facts, separators=(",", ":")).encode()).hexdigest()[:16]
