"""Splits stored as image and label files: decoding and validation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hw_latency_model.agent.cores import available_cores
from objectives.data.base import DatasetError, DatasetInfo, SegmentationData, UInt8Array
from objectives.data.file_index import FilePair

_TAIL_BYTES = 64
_UNDECODABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def worker_threads() -> int:
    """Return the number of decoding threads: PIL releases the GIL, and beyond eight the disk limits."""
    return min(8, available_cores())


class FileData(SegmentationData):
    """Images and single-channel labels on disk.

    Args:
        info: facts of the data set.
        split: name of the split.
        pairs: files in order.
        id_map: class id, or ``info.ignore_index``, of each value in label files; other values are out of range.
        ids_rule: allowed values in words, for the error message.
        equal_channels: accept labels with three equal channels; coloured labels are rejected in any case.
    """

    def __init__(
        self,
        info: DatasetInfo,
        split: str,
        pairs: Sequence[FilePair],
        id_map: Mapping[int, int],
        ids_rule: str,
        *,
        equal_channels: bool = False,
    ) -> None:
        super().__init__(info, split)
        self.pairs = tuple(pairs)
        self._ids_rule = ids_rule
        self._equal_channels = equal_channels
        self._class_of = np.full(256, info.ignore_index, np.uint8)
        self._allowed = np.zeros(256, bool)
        for value, class_id in id_map.items():
            self._class_of[value] = class_id
            self._allowed[value] = True

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def pair(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        files = self.pairs[index]
        image = _decode(files.image, "image", "RGB")
        label = self._read_label(files.label)
        _require_same_size(files, (image.shape[0], image.shape[1]), (label.shape[0], label.shape[1]))
        return image, label

    def image(self, index: int) -> UInt8Array:
        return _decode(self.pairs[index].image, "image", "RGB")

    def label(self, index: int) -> UInt8Array:
        return self._read_label(self.pairs[index].label)

    def label_hw(self, index: int) -> tuple[int, int]:
        return _size_hw(self.pairs[index].label, "label")

    def check(self) -> None:
        with ThreadPoolExecutor(worker_threads()) as threads:
            results = list(threads.map(self._check_one, range(len(self))))
        errors = [result for result in results if isinstance(result, DatasetError)]
        if errors:
            more = f" ({len(errors)} files of split {self.split} have such defects.)" if len(errors) > 1 else ""
            raise DatasetError(f"{errors[0]}{more}") from errors[0]
        if not any(results):
            raise DatasetError(
                f"split {self.split} of data set {self.info.name} needs labelled pixels to be scored on, but every one "
                f"of its {len(self)} labels is to be ignored (first file {self.pairs[0].label}); choose another split."
            )

    def _check_one(self, index: int) -> DatasetError | bool:
        """Return the first defect of a pair, or True if its label has a pixel that is not ignored."""
        files = self.pairs[index]
        try:
            image_hw = _size_hw(files.image, "image")
            _require_whole(files.image, "image")
            _require_whole(files.label, "label")
            label = self._read_label(files.label)
            _require_same_size(files, image_hw, (label.shape[0], label.shape[1]))
        except DatasetError as error:
            return error
        return bool((label != self.info.ignore_index).any())

    def _read_label(self, path: Path) -> UInt8Array:
        values = _decode(path, "label", None)
        if self._equal_channels and values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
            values = values[..., 0]
        if values.ndim != 2:
            raise DatasetError(
                f"a label must have one channel holding class ids, but {path} has {values.shape[2]} (colours?); "
                "convert the colours to class ids and save it as a greyscale or palette PNG."
            )
        if values.dtype != np.uint8:
            if values.min() < 0 or values.max() > 255:
                bad = int(values.min() if values.min() < 0 else values.max())
                raise self._out_of_range(path, [bad], int((values == bad).sum()))
            values = values.astype(np.uint8)
        present = np.bincount(values.ravel(), minlength=256)
        wrong = np.flatnonzero((present > 0) & ~self._allowed)
        if wrong.size:
            raise self._out_of_range(path, wrong.tolist(), int(present[wrong].sum()))
        return self._class_of[values]

    def _out_of_range(self, path: Path, values: list[int], pixels: int) -> DatasetError:
        shown = ", ".join(str(value) for value in values[:5]) + (", ..." if len(values) > 5 else "")
        return DatasetError(
            f"label values of data set {self.info.name} must be {self._ids_rule}, but {path} holds {shown} "
            f"({pixels} pixels); correct the label or use {self.info.ignore_index} for pixels to be ignored."
        )

    def _identity(self) -> list[Any]:
        facts: list[Any] = [self._class_of.tolist(), self._allowed.tolist()]
        for files in self.pairs:
            entry: list[Any] = [files.name]
            for path in (files.image, files.label):
                try:
                    status = path.stat()
                except OSError as error:
                    raise _unreadable(path, "file", error) from error
                entry += [str(path.absolute()), status.st_size, status.st_mtime_ns]
            facts.append(entry)
        return facts


def _size_hw(path: Path, what: str) -> tuple[int, int]:
    """Return height and width from the file's header."""
    try:
        with Image.open(path) as opened:
            return opened.height, opened.width
    except _UNDECODABLE as error:
        raise _unreadable(path, what, error) from error


def _require_whole(path: Path, what: str) -> None:
    """Raise for a PNG or JPEG without its format's end marker.

    Cheaper than decoding large photos, and stricter: a PNG truncated shortly before its end decodes without an error.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(max(-_TAIL_BYTES, -path.stat().st_size), os.SEEK_END)
            tail = file.read()
            if b"IEND" in tail or (start.startswith(b"\xff\xd8") and b"\xff\xd9" in tail):
                return
            if start == b"\x89PNG" and b"IEND" not in path.read_bytes():
                raise OSError("it is truncated: its end is missing")
    except OSError as error:
        raise _unreadable(path, what, error) from error
    _decode(path, what, None)


def _decode(path: Path, what: str, mode: str | None) -> UInt8Array:
    try:
        with Image.open(path) as opened:
            if mode is not None:
                return np.asarray(opened.convert(mode))
            opened.load()
            array = np.asarray(opened)
            return array.astype(np.uint8) if opened.mode == "1" else array
    except _UNDECODABLE as error:
        raise _unreadable(path, what, error) from error


def _unreadable(path: Path, what: str, error: Exception) -> DatasetError:
    if isinstance(error, FileNotFoundError):
        return DatasetError(f"the {what} {path} was there when its folder was listed but is missing now; restore it.")
    if isinstance(error, PermissionError):
        return DatasetError(f"the {what} {path} cannot be read: permission denied; give yourself read permission.")
    reason = "it is empty" if path.stat().st_size == 0 else str(error).replace(str(path), "the file").rstrip(".")
    return DatasetError(
        f"every {what} must be a whole PNG or JPEG, but {path} cannot be decoded ({reason}); "
        "restore it from its source or remove it together with its partner."
    )


def _require_same_size(files: FilePair, image_hw: tuple[int, int], label_hw: tuple[int, int]) -> None:
    if image_hw != label_hw:
        raise DatasetError(
            f"a label must have the size of its image, but {files.label} is {label_hw[1]}x{label_hw[0]} and "
            f"{files.image} is {image_hw[1]}x{image_hw[0]} pixels (width x height); "
            "export the label again at the image's size."
        )
