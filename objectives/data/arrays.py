"""Whole splits as arrays: decoded once, then memory-mapped from a cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from objectives.data.base import SegmentationData, UInt8Array
from objectives.data.file_data import worker_threads
from search_spaces._common.files import atomic_path, write_error

_CHUNK = 32
_FORMAT = 1


@dataclass(frozen=True)
class ArraySplit:
    """Images and labels of a split, in memory or memory-mapped (then read-only).

    Attributes:
        images: uint8 (N, h, w, 3), RGB, resized to the network's input with antialiasing.
        train_labels: uint8 (N, h, w), nearest neighbour, for the loss.
        labels: labels at their original resolution, for mIoU: uint8 (N, H, W) if all have one size, else a list of (H, W);
            empty if not loaded.
    """

    images: UInt8Array
    train_labels: UInt8Array
    labels: UInt8Array | list[UInt8Array]

    def __len__(self) -> int:
        return len(self.images)


def load_arrays(
    data: SegmentationData, input_hw: tuple[int, int], *, cache_dir: Path | None, with_labels: bool = True
) -> ArraySplit:
    """Decode and resize a split, or memory-map the arrays that an earlier call stored in ``cache_dir``.

    Entries are keyed by ``data.fingerprint()``, so changed files or options create a new entry. Labels at their original resolution do
    not depend on ``input_hw`` and are stored once for all resolutions. Entries are written atomically, and concurrent processes wait
    for the first one to finish an entry. ``cache_dir=None`` keeps the arrays in memory.

    Args:
        data: the split.
        input_hw: height and width to resize to, in pixels.
        cache_dir: writable folder outside the data set.
        with_labels: False omits ``labels``, which training does not need.

    Raises:
        DatasetError: a file cannot be decoded or breaks a rule of ``data.check``.
        UserError: ``cache_dir`` cannot be written to, or the disk is full.
        ValueError: ``input_hw`` is not positive.
    """
    if min(input_hw) < 1:
        raise ValueError(f"input_hw must be positive, not {input_hw}")
    if cache_dir is None:
        return _decode_to_memory(data, input_hw, with_labels)
    entry = _CacheEntry(data, input_hw, cache_dir, with_labels)
    if not entry.complete():
        with _lock(entry.lock_path):
            if not entry.complete():
                entry.write()
    return entry.read()


def decoded_parts(data: SegmentationData, input_hw: tuple[int, int]) -> Iterator[ArraySplit]:
    """Yield a split in parts of up to 32 images, decoded on demand, for a single pass over the data.

    Raises:
        DatasetError: as `load_arrays`.
    """
    part: list[tuple[UInt8Array, UInt8Array, UInt8Array]] = []
    for index, *item in _decode_all(data, input_hw):
        part.append((item[0], item[1], item[2]))
        if len(part) == _CHUNK or index + 1 == len(data):
            images, train_labels, labels = zip(*part, strict=True)
            yield ArraySplit(np.stack(images), np.stack(train_labels), list(labels))
            part = []


def _resized(
    data: SegmentationData, index: int, input_hw: tuple[int, int]
) -> tuple[UInt8Array, UInt8Array, UInt8Array]:
    image, label = data.pair(index)
    if image.shape[:2] == input_hw:
        return image, label, label
    size = (input_hw[1], input_hw[0])
    small = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    small_label = Image.fromarray(label).resize(size, Image.Resampling.NEAREST)
    return np.asarray(small), np.asarray(small_label), label


def _decode_all(
    data: SegmentationData, input_hw: tuple[int, int]
) -> Iterator[tuple[int, UInt8Array, UInt8Array, UInt8Array]]:
    """Yield every image in order; at most one chunk is in memory."""
    with ThreadPoolExecutor(worker_threads()) as threads:
        for start in range(0, len(data), _CHUNK):
            indices = range(start, min(start + _CHUNK, len(data)))
            for index, item in zip(indices, threads.map(lambda i: _resized(data, i, input_hw), indices), strict=True):
                yield index, *item


def _decode_to_memory(data: SegmentationData, input_hw: tuple[int, int], with_labels: bool) -> ArraySplit:
    images = np.empty((len(data), *input_hw, 3), np.uint8)
    train_labels = np.empty((len(data), *input_hw), np.uint8)
    labels: list[UInt8Array] = []
    for index, image, train_label, label in _decode_all(data, input_hw):
        images[index], train_labels[index] = image, train_label
        if with_labels:
            labels.append(label)
    one_size = labels and len({label.shape for label in labels}) == 1
    return ArraySplit(images, train_labels, np.stack(labels) if one_size else labels)


class _CacheEntry:
    """Files of one split in the cache: two per resolution, and the concatenated full-size labels."""

    def __init__(self, data: SegmentationData, input_hw: tuple[int, int], cache_dir: Path, with_labels: bool) -> None:
        key = hashlib.sha256(f"{_FORMAT}:{data.fingerprint()}".encode()).hexdigest()[:16]
        stem = f"{data.info.name}-{data.split}-{key}"
        self._data, self._input_hw, self._with_labels = data, input_hw, with_labels
        self.lock_path = cache_dir / f"{stem}.lock"
        self._images = cache_dir / f"{stem}-{input_hw[0]}x{input_hw[1]}-images.npy"
        self._train_labels = cache_dir / f"{stem}-{input_hw[0]}x{input_hw[1]}-labels.npy"
        self._labels = cache_dir / f"{stem}-labels.npy"
        self._sizes = cache_dir / f"{stem}-label-sizes.npy"

    def complete(self) -> bool:
        # Each file is renamed into place once complete; the sizes follow the labels they describe.
        return all(path.exists() for path in (self._images, self._train_labels)) and (
            not self._with_labels or self._labels_complete()
        )

    def _labels_complete(self) -> bool:
        return self._labels.exists() and self._sizes.exists()

    def write(self) -> None:
        data, count = self._data, len(self._data)
        with contextlib.ExitStack() as stack:
            images = stack.enter_context(_npy(self._images, (count, *self._input_hw, 3)))
            train_labels = stack.enter_context(_npy(self._train_labels, (count, *self._input_hw)))
            sizes: list[tuple[int, int]] = []
            labels: IO[bytes] | None = None
            if self._with_labels and not self._labels_complete():
                sizes = [data.label_hw(index) for index in range(count)]
                with atomic_path(self._sizes) as temporary, temporary.open("wb") as file:
                    np.save(file, np.array(sizes, np.int64))
                labels = stack.enter_context(_npy(self._labels, (sum(height * width for height, width in sizes),)))
            for _, image, train_label, label in _decode_all(data, self._input_hw):
                images.write(np.ascontiguousarray(image).data)
                train_labels.write(np.ascontiguousarray(train_label).data)
                if labels is not None:
                    labels.write(np.ascontiguousarray(label).data)

    def read(self) -> ArraySplit:
        images, train_labels = np.load(self._images, mmap_mode="r"), np.load(self._train_labels, mmap_mode="r")
        labels: UInt8Array | list[UInt8Array] = []
        if self._with_labels:
            flat, sizes = np.load(self._labels, mmap_mode="r"), np.load(self._sizes)
            labels = _split_labels(flat, [(int(height), int(width)) for height, width in sizes])
        return ArraySplit(images, train_labels, labels)


def _split_labels(flat: UInt8Array, sizes: Sequence[tuple[int, int]]) -> UInt8Array | list[UInt8Array]:
    if len(set(sizes)) == 1:
        return flat.reshape(len(sizes), *sizes[0])
    ends = np.cumsum([height * width for height, width in sizes])
    return [
        flat[end - height * width : end].reshape(height, width)
        for end, (height, width) in zip(ends, sizes, strict=True)
    ]


@contextlib.contextmanager
def _npy(path: Path, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """Open a .npy file of uint8 for sequential writing; unlike a memory-mapped file it raises OSError on a full disk."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        yield file


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an inter-process lock; on file systems without locks nothing is locked, and work may be repeated."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
