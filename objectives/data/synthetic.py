"""Built-in data: procedural aerial disaster scenes of the 14 LPCVC classes, for demos and tests without a download."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from objectives.data.base import DatasetError, DatasetInfo, SegmentationData, UInt8Array
from objectives.data.lpcvc import CLASSES
from objectives.data.scenes import THEMES, render_scene

INFO = DatasetInfo("synthetic", tuple(CLASSES), tuple(CLASSES.values()))
MIN_SIDE_PX = 32
# Increment when a seed renders another image: older caches are then not used.
_DRAWING_VERSION = 1


class SyntheticData(SegmentationData):
    """Scenes rendered on demand; each depends only on seed, split, index and size."""

    def __init__(self, split: str, images: int, height_px: int, width_px: int, seed: int) -> None:
        super().__init__(INFO, split)
        self._images, self._height_px, self._width_px, self._seed = images, height_px, width_px, seed

    def __len__(self) -> int:
        return self._images

    def name(self, index: int) -> str:
        self._require(index)
        return f"scene_{index:05d}"

    def theme(self, index: int) -> str:
        """Return the kind of disaster; a block of as many scenes as kinds has each once, in random order."""
        self._require(index)
        themes = list(THEMES)
        block, place = divmod(index, len(themes))
        order = self._generator(1, block).permutation(len(themes))
        return themes[int(order[place])]

    def pair(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        return render_scene(self._generator(0, index), self.theme(index), self._height_px, self._width_px)

    def label_hw(self, index: int) -> tuple[int, int]:
        self._require(index)
        return self._height_px, self._width_px

    def check(self) -> None:
        """Do nothing: there are no files to validate."""

    def _generator(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(self.split.encode()), purpose, number])

    def _require(self, index: int) -> None:
        if not 0 <= index < self._images:
            raise IndexError(f"scene {index} of {self._images}")

    def _identity(self) -> list[Any]:
        return [_DRAWING_VERSION, self._images, self._height_px, self._width_px, self._seed]


def open_synthetic(
    root: Path | None, split: str, *, images: int = 200, height_px: int = 96, width_px: int = 128, seed: int = 0
) -> SyntheticData:
    """Open procedural scenes with 14 classes and no ignored pixel.

    Args:
        root: must be None: nothing is read.
        split: train, val or test; the same index gives different scenes in each.
        images: scenes in the split; 60 show all classes.
        height_px, width_px: size of images and labels, at least 32 each.
        seed: 0 or more.
    """
    if root is not None:
        raise DatasetError(
            f"data set synthetic is drawn, not read, but root is {root}; remove root or choose another kind."
        )
    for name, value, least in (
        ("images", images, 1),
        ("height_px", height_px, MIN_SIDE_PX),
        ("width_px", width_px, MIN_SIDE_PX),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DatasetError(
                f"{name} of data set synthetic must be a whole number from {least} up, but is {value!r}; correct it."
            )
    return SyntheticData(split, images, height_px, width_px, seed)
