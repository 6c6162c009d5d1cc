"""Splits stored as image and label files: decoding and validation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_latency_model.agent.cores import available_cores
from objectives.data.base import DatasetError, DatasetInfo, SegmentationData, UInt8Array
from objectives.data.file_index import FilePair
from objectives.data.image_file import (
    ImageHeader,
    LabelPixels,
    deep_maximum,
    label_size_hw,
    read_header,
    read_image,
    read_label,
    require_regular,
    require_whole,
    unreadable,
)
from objectives.data.survey import Colour, SplitSurvey, SurveyBuilder, array_digest, path_digest

_TAIL_BYTES = 64
# Increment when files are decoded differently: older caches are then not used.
_DECODING_VERSION = 2
_MAX_VALUE = 65535


def worker_threads() -> int:
    """Return the number of decoding threads: PIL releases the GIL, and beyond eight the disk limits."""
    return min(8, available_cores())


@dataclass(frozen=True)
class _Label:
    """A label's class ids, uint8 (H, W), and what its file holds: pixels by value, and the colours of palette values."""

    ids: UInt8Array
    values: Mapping[int, int] = field(default_factory=dict)
    palette: Mapping[int, tuple[Colour, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Checked:
    """Facts of one valid pair, for the survey."""

    image_digest: str
    label_digest: str
    class_pixels: npt.NDArray[np.int64]
    label: _Label
    deep_maximum: int | None


class FileData(SegmentationData):
    """Images and labels on disk.

    Args:
        info: facts of the data set.
        split: name of the split.
        pairs: files in order.
        id_map: class id, or ``info.ignore_index``, of each value in label files (0 to 65535); other values are out of range.
        ids_rule: allowed values in words, for the error message.
        equal_channels: accept labels with three equal channels, whose value counts.
        colour_map: class id, or ``info.ignore_index``, of each colour (red, green, blue) in labels of colours and in palettes;
            None: colours are refused, and palette labels are read by value.
        grey_colours: read greyscale labels as colours too, by ``colour_map``.
        image_max: value of white in images of more than 8 bits; None: 65535.
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
        colour_map: Mapping[Colour, int] | None = None,
        grey_colours: bool = False,
        image_max: int | None = None,
    ) -> None:
        super().__init__(info, split)
        self.pairs = tuple(pairs)
        self.image_max = image_max
        self._ids_rule = ids_rule
        self._equal_channels = equal_channels
        self._colour_map = dict(colour_map) if colour_map is not None else None
        self._grey_colours = grey_colours
        size = 256 if max(id_map, default=0) < 256 else _MAX_VALUE + 1
        self._class_of = np.full(size, info.ignore_index, np.uint8)
        self._allowed = np.zeros(size, bool)
        for value, class_id in id_map.items():
            self._class_of[value] = class_id
            self._allowed[value] = True

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def pair(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        files = self.pairs[index]
        image = read_image(files.image, self.image_max)
        label = self._read_label(files.label).ids
        if image.shape[:2] != label.shape:
            raise _misfit(files, read_header(files.image), (label.shape[0], label.shape[1]))
        return image, label

    def image(self, index: int) -> UInt8Array:
        return read_image(self.pairs[index].image, self.image_max)

    def label(self, index: int) -> UInt8Array:
        return self._read_label(self.pairs[index].label).ids

    def label_hw(self, index: int) -> tuple[int, int]:
        return label_size_hw(self.pairs[index].label)

    def check(self) -> None:
        self.survey()

    def survey(self) -> SplitSurvey:
        """Validate every file as ``check`` does, and count classes on the way.

        Raises:
            DatasetError: as ``check``; or palette labels that give a value different colours.
        """
        with ThreadPoolExecutor(worker_threads()) as threads:
            results = list(threads.map(self._check_one, range(len(self))))
        errors = [result for result in results if isinstance(result, DatasetError)]
        if errors:
            more = f" ({len(errors)} files of split {self.split} have such defects.)" if len(errors) > 1 else ""
            raise DatasetError(f"{errors[0]}{more}") from errors[0]
        builder = SurveyBuilder(self)
        for files, found in zip(self.pairs, results, strict=True):
            if isinstance(found, DatasetError):
                raise found
            builder.add(
                files.name,
                found.image_digest,
                found.label_digest,
                found.class_pixels,
                values=found.label.values,
                deep_maximum=found.deep_maximum,
                palette=found.label.palette,
            )
        survey = builder.survey()
        if not any(survey.class_pixels):
            held = f", values {', '.join(map(str, sorted(survey.values)[:5]))}" if survey.values else ""
            raise DatasetError(
                f"split {self.split} of data set {self.info.name} needs labelled pixels to be scored on, but every one "
                f"of its {len(self)} labels is to be ignored (first file {self.pairs[0].label}{held}); choose another split, or "
                "correct the labels' values."
            )
        return survey

    def _check_one(self, index: int) -> DatasetError | _Checked:
        """Return the first defect of a pair, or its facts."""
        files = self.pairs[index]
        try:
            header = read_header(files.image)
            image_digest = _digest_of_whole(files.image, "image")
            _digest_of_whole(files.label, "label")
            label = self._read_label(files.label)
            label_hw = (label.ids.shape[0], label.ids.shape[1])
            if header.size_hw != label_hw:
                return _misfit(files, header, label_hw)
            deep = None
            if header.deep:
                deep = deep_maximum(files.image)
                read_image(files.image, self.image_max)
        except DatasetError as error:
            return error
        counts = np.bincount(label.ids.ravel(), minlength=256)
        facts = _Label(np.empty((0, 0), np.uint8), label.values, label.palette)  # a view would keep the pixels
        return _Checked(image_digest, array_digest(label.ids), counts, facts, deep)

    def _read_label(self, path: Path) -> _Label:
        pixels = read_label(path)
        if self._colour_map is not None:
            colours = as_colours(pixels, grey=self._grey_colours)
            if colours is not None:
                return _Label(self._ids_of_colours(path, colours, self._colour_map))
        values = pixels.values
        if values is None and pixels.colours is not None and self._equal_channels:
            equal = (pixels.colours == pixels.colours[..., :1]).all()
            values = pixels.colours[..., 0] if equal else None
        if values is None:
            raise DatasetError(
                f"a label must have one channel holding class ids, but {path} holds colours; name the colour of each class with "
                "data.colours (kind folder), or save the class ids as a greyscale or palette PNG."
            )
        ids, present = self._ids_of_values(path, values)
        palette: dict[int, tuple[Colour, str]] = {}
        if pixels.palette is not None:
            classes = [value for value in present if self._class_of[value] != self.info.ignore_index]
            palette = {value: (_colour(pixels.palette[value]), str(path)) for value in classes}
        return _Label(ids, present, palette)

    def _ids_of_values(self, path: Path, values: npt.NDArray[Any]) -> tuple[UInt8Array, dict[int, int]]:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > _MAX_VALUE:
            bad = low if low < 0 else high
            raise self._out_of_range(path, [bad], int((values == bad).sum()))
        present = np.bincount(values.ravel(), minlength=len(self._allowed))
        held = np.flatnonzero(present)
        wrong = [int(value) for value in held if value >= len(self._allowed) or not self._allowed[value]]
        if wrong:
            raise self._out_of_range(path, wrong, int(present[wrong].sum()))
        return self._class_of[values], {int(value): int(present[value]) for value in held}

    def _ids_of_colours(self, path: Path, colours: UInt8Array, known: Mapping[Colour, int]) -> UInt8Array:
        packed = packed_colours(colours)
        order = sorted(known, key=_packed_colour)
        keys = np.array([_packed_colour(colour) for colour in order], np.int32)
        ids = np.array([known[colour] for colour in order], np.uint8)
        places = np.minimum(np.searchsorted(keys, packed), len(keys) - 1)
        unknown = keys[places] != packed
        if unknown.any():
            found, counts = np.unique(packed[unknown], return_counts=True)
            first = int(found[counts.argmax()])
            raise DatasetError(
                f"each colour of a label must stand for a class, but {path} holds {(first >> 16, first >> 8 & 255, first & 255)} "
                f"({int(counts.max())} pixels; {len(found)} unknown colours in all); add it to data.colours or data.ignore_colours, "
                "and export labels without smoothed edges."
            )
        return ids[places]

    def _out_of_range(self, path: Path, values: list[int], pixels: int) -> DatasetError:
        shown = ", ".join(str(value) for value in values[:5]) + (", ..." if len(values) > 5 else "")
        remedy = f"correct the label or use {self.info.ignore_index} for pixels to be ignored"
        if self.info.name == "folder":
            remedy += " (data.first_id: 1 where ids count from 1, data.ignore_ids for values to be ignored, data.label_values for others)"
        return DatasetError(
            f"label values of data set {self.info.name} must be {self._ids_rule}, but {path} holds {shown} "
            f"({pixels} pixels); {remedy}."
        )

    def _identity(self) -> list[Any]:
        facts: list[Any] = [_DECODING_VERSION, self._class_of.tolist(), self._allowed.tolist()]
        if self._colour_map is not None:
            facts.append([sorted((list(colour), id_) for colour, id_ in self._colour_map.items()), self._grey_colours])
        if self.image_max is not None:
            facts.append(["image_max", self.image_max])
        for files in self.pairs:
            entry: list[Any] = [files.name]
            for path in (files.image, files.label):
                try:
                    status = path.stat()
                except OSError as error:
                    raise unreadable(path, "file", error) from error
                entry += [str(path.absolute()), status.st_size, status.st_mtime_ns]
            facts.append(entry)
        return facts


def _digest_of_whole(path: Path, what: str) -> str:
    """Return a file's digest; raise for a PNG or JPEG without its format's end marker.

    Cheaper than decoding large photos, and stricter: a PNG truncated shortly before its end decodes without an error.
    """
    require_regular(path, what)
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(max(-_TAIL_BYTES, -path.stat().st_size), os.SEEK_END)
            tail = file.read()
        whole = b"IEND" in tail or (start.startswith(b"\xff\xd8") and b"\xff\xd9" in tail)
        if not whole and start == b"\x89PNG" and b"IEND" not in path.read_bytes():
            raise OSError("it is truncated: its end is missing")
        digest = path_digest(path)
    except OSError as error:
        raise unreadable(path, what, error) from error
    if not whole:
        require_whole(path, what)
    return digest


def _misfit(files: FilePair, header: ImageHeader, label_hw: tuple[int, int]) -> DatasetError:
    """Return the sentence for a label that has another size than its image."""
    width, height = header.size_hw[1], header.size_hw[0]
    if header.size_hw != header.stored_hw == label_hw:
        return DatasetError(
            f"a label must have the size of its upright image, but {files.label} is {label_hw[1]}x{label_hw[0]} and fits "
            f"{files.image} only as it is stored: its EXIF orientation ({header.orientation}) turns it to {width}x{height} pixels "
            "(width x height); export the label again from the upright image, or remove the EXIF orientation from the image."
        )
    turned = f" after its EXIF orientation ({header.orientation}) was applied" if header.orientation > 1 else ""
    return DatasetError(
        f"a label must have the size of its image, but {files.label} is {label_hw[1]}x{label_hw[0]} and "
        f"{files.image} is {width}x{height} pixels (width x height){turned}; "
        "export the label again at the image's size."
    )


def as_colours(pixels: LabelPixels, *, grey: bool) -> UInt8Array | None:
    """Return a label's colours, uint8 (H, W, 3); None for one that has values only."""
    if pixels.colours is not None or pixels.values is None:
        return pixels.colours
    if pixels.palette is not None:
        coloured: UInt8Array = pixels.palette[pixels.values]
        return coloured
    return np.repeat(pixels.grey[:, :, None], 3, axis=2) if grey and pixels.grey is not None else None


def packed_colours(colours: UInt8Array) -> npt.NDArray[np.int32]:
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _packed_colour(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _colour(entry: UInt8Array) -> Colour:
    return int(entry[0]), int(entry[1]), int(entry[2])
