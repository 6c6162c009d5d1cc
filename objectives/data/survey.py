"""Survey of a split: pixels of each class, and digests that identify the data wherever they are stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.base import DatasetError, SegmentationData

_DIGEST_BYTES = 8
_BLOCK_BYTES = 1 << 16
_WHOLE_BYTES = 64 * _BLOCK_BYTES

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class SplitSurvey:
    """Content of one split.

    Attributes:
        split: train, val or test.
        class_pixels: pixels of each class, by class id.
        class_images: images that hold each class, by class id.
        ignored_pixels: pixels that the loss and mIoU leave out.
        values: pixels of each value in label files, before they become class ids; empty for labels of colours.
        digests: digest of each image and of its class ids, by name.
        deep_maximum: largest value of greyscale images with more than 8 bits; None where there are none.
        palette: colour that palette labels give each value that stands for a class, with the first such label's path.
    """

    split: str
    class_pixels: tuple[int, ...]
    class_images: tuple[int, ...]
    ignored_pixels: int
    digests: Mapping[str, tuple[str, str]]
    values: Mapping[int, int] = field(default_factory=dict)
    deep_maximum: int | None = None
    palette: Mapping[int, tuple[Colour, str]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """16 hex digits, the same for copies of the data in other folders and on other machines."""
        return _hex(json.dumps(sorted(self.digests.items())).encode())

    @property
    def pixels(self) -> int:
        """All pixels, ignored ones included."""
        return sum(self.class_pixels) + self.ignored_pixels

    def to_dict(self) -> dict[str, Any]:
        """JSON values, which `from_dict` reads."""
        return {
            "split": self.split,
            "class_pixels": list(self.class_pixels),
            "class_images": list(self.class_images),
            "ignored_pixels": self.ignored_pixels,
            "values": sorted(self.values.items()),
            "deep_maximum": self.deep_maximum,
            "palette": [[value, list(colour), path] for value, (colour, path) in sorted(self.palette.items())],
            "digests": {name: list(pair) for name, pair in self.digests.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> SplitSurvey:
        """Read what `to_dict` wrote."""
        return cls(
            split=value["split"],
            class_pixels=tuple(value["class_pixels"]),
            class_images=tuple(value["class_images"]),
            ignored_pixels=value["ignored_pixels"],
            digests={name: (image, label) for name, (image, label) in value["digests"].items()},
            values={int(key): pixels for key, pixels in value["values"]},
            deep_maximum=value["deep_maximum"],
            palette={int(key): ((r, g, b), path) for key, (r, g, b), path in value["palette"]},
        )


class SurveyBuilder:
    """Collects the facts of a split's images, in order."""

    def __init__(self, data: SegmentationData) -> None:
        self._data = data
        self._class_pixels = np.zeros(256, np.int64)
        self._class_images = np.zeros(256, np.int64)
        self._digests: dict[str, tuple[str, str]] = {}
        self._values: dict[int, int] = {}
        self._deep: list[int] = []
        self._palette: dict[int, tuple[Colour, str]] = {}

    def add(
        self,
        name: str,
        image_digest: str,
        label_digest: str,
        class_pixels: npt.NDArray[np.int64],
        *,
        values: Mapping[int, int] | None = None,
        deep_maximum: int | None = None,
        palette: Mapping[int, tuple[Colour, str]] | None = None,
    ) -> None:
        """Add one image.

        Args:
            name: of the image.
            image_digest, label_digest: see `SplitSurvey.digests`.
            class_pixels: pixels of each id, 256 numbers.
            values, deep_maximum, palette: see `SplitSurvey`.

        Raises:
            DatasetError: the label's palette contradicts an earlier one's.
        """
        self._class_pixels += class_pixels
        self._class_images += class_pixels > 0
        self._digests[name] = (image_digest, label_digest)
        for value, pixels in (values or {}).items():
            self._values[value] = self._values.get(value, 0) + pixels
        if deep_maximum is not None:
            self._deep.append(deep_maximum)
        if palette:
            require_one_palette(self._palette, palette)
            self._palette = {**palette, **self._palette}

    def survey(self) -> SplitSurvey:
        """Return the survey of all images added."""
        info, classes = self._data.info, self._data.info.num_classes
        return SplitSurvey(
            split=self._data.split,
            class_pixels=tuple(map(int, self._class_pixels[:classes])),
            class_images=tuple(map(int, self._class_images[:classes])),
            ignored_pixels=int(self._class_pixels[info.ignore_index]),
            digests=self._digests,
            values=self._values,
            deep_maximum=max(self._deep, default=None),
            palette=self._palette,
        )


def require_one_palette(first: Mapping[int, tuple[Colour, str]], second: Mapping[int, tuple[Colour, str]]) -> None:
    """Refuse palette labels that give a value another colour, or a colour another value.

    Raises:
        DatasetError: both labels are named.
    """
    for value, (colour, path) in second.items():
        if value in first and first[value][0] != colour:
            other, other_path = first[value]
            raise DatasetError(
                f"palette labels must give each value one colour, but value {value} is {other} in {other_path} and {colour} in "
                f"{path}, so it cannot stand for one class; give the colour of each class with data.colours or in classes.txt."
            )
    values = {colour: (value, path) for value, (colour, path) in first.items()}
    for value, (colour, path) in second.items():
        if colour in values and value not in first and values[colour][0] not in second:
            other_value, other_path = values[colour]
            raise DatasetError(
                f"palette labels must give each colour one value, but {colour} has value {other_value} in {other_path} and {value} "
                f"in {path}, so the values cannot stand for classes; give the colour of each class with data.colours or in "
                "classes.txt."
            )


def array_digest(array: npt.NDArray[Any]) -> str:
    """Return 16 hex digits of an array's shape and content."""
    return _hex(str(array.shape).encode(), np.ascontiguousarray(array).data)


def file_digest(content: bytes) -> str:
    """Return 16 hex digits of a file's content."""
    return _hex(content)


def large_file_digest(path: Path, size: int) -> str:
    """Return 16 hex digits of a file's size and of 64 blocks of 64 KiB spread evenly over it."""
    parts = [str(size).encode()]
    with path.open("rb") as file:
        for block in range(_WHOLE_BYTES // _BLOCK_BYTES):
            file.seek((size - _BLOCK_BYTES) * block // (_WHOLE_BYTES // _BLOCK_BYTES - 1))
            parts.append(file.read(_BLOCK_BYTES))
    return _hex(*parts)


def path_digest(path: Path) -> str:
    """Return 16 hex digits of a file: of its content, or of parts of it where it is larger than 4 MiB.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    return large_file_digest(path, size) if size > _WHOLE_BYTES else file_digest(path.read_bytes())


def _hex(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
