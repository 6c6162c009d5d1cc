"""Recognize a folder of images and labels: its layout, and the classes that its labels hold."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from objectives.data.base import IGNORE_INDEX, DatasetError
from objectives.data.file_data import as_colours, packed_colours, worker_threads
from objectives.data.file_index import index_files
from objectives.data.folder import IMAGE_SUFFIXES, LABEL_SUFFIXES, SPLIT, read_classes, split_folder
from objectives.data.image_file import read_label

_MARKERS = (
    ("cityscapes", ("leftImg8bit", "gtFine")),
    ("rellis3d", ("Rellis_3D_pylon_camera_node",)),
    ("lpcvc", ("LPCVC_Train_Updated",)),
    ("lpcvc", ("LPCVC_Train",)),
    ("ade20k", ("objectInfo150.txt", "annotations")),
    ("voc", ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")),
    ("camvid", ("train", "trainannot")),
)
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "rgb", "photos", "jpegimages", "frames", "input", "inputs")
_LABEL_FOLDERS = (
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "annotation",
    "annot",
    "annots",
    "gt",
    "ground_truth",
    "segmentation",
    "segmentationclass",
    "targets",
    "target",
)
_OTHER_VAL = ("valid", "validation", "dev", "eval")
_MANY = 64
_CLASSES = "classes.txt"


@dataclass(frozen=True)
class RecognizedData:
    """Layout and classes of a folder, in the terms of a study's section ``data``.

    Attributes:
        kind: kind of data set, a key of `KINDS`.
        options: further keys of the section ``data``, of kind folder.
        invented: the class names are made up from the labels' values or colours.
        notes: sentences on what was concluded.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    invented: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Layout:
    images: str
    labels: str
    by_split: bool
    flat: bool = False

    def folders(self, root: Path, split: str) -> tuple[Path, Path]:
        named = split if self.by_split else None
        return split_folder(root, self.images, named), split_folder(root, self.labels, named)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "val") if self.by_split else ("train",)


@dataclass
class _Content:
    """Pixels by value and by colour in a data set's labels, and the labels that hold values only."""

    values: Counter[int] = field(default_factory=Counter)
    colours: Counter[int] = field(default_factory=Counter)
    of_values: list[Path] = field(default_factory=list)


def recognize_data(root: Path) -> RecognizedData:
    """Recognize the layout of a folder and, where no file names them, the classes in its labels. Every label is read.

    Raises:
        DatasetError: there is no such folder, its layout is not known, or its labels cannot stand for classes.
    """
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise DatasetError(f"the data must be a folder of images and labels, but {root} {found}; correct the path.")
    for kind, markers in _MARKERS:
        if all((root / marker).exists() for marker in markers):
            return RecognizedData(kind)
    layout = _layout(root)
    options: dict[str, Any] = {}
    if layout.images != "images":
        options["image_folder"] = layout.images
    if layout.labels != "labels":
        options["label_folder"] = layout.labels
    options |= _suffixes(root, layout)
    labels = _label_files(root, layout, options)
    names, listed = read_classes(root / _CLASSES) if (root / _CLASSES).is_file() else ((), [])
    content = _read_labels(labels)
    if content.colours:
        classes = _colours(root, names, listed, content)
    else:
        classes = _values(root, names, content)
    return RecognizedData("folder", options | dict(classes.options), classes.invented, classes.notes)


def _layout(root: Path) -> _Layout:
    """Return where images and labels lie: in two folders, in two folders of each split, or together."""
    pair = _pair_below(root)
    if pair:
        images, labels = pair
        inside = _folders(root / images)
        _require_known_splits(root / images, inside)
        if "train" in inside and "val" in inside:
            return _Layout(images, labels, by_split=True)
        return (
            _Layout(f"{images}/train", f"{labels}/train", by_split=False)
            if "train" in inside
            else _Layout(*pair, False)
        )
    top = _folders(root)
    if "train" in top:
        _require_known_splits(root, top)
        by_split = "val" in top
        split = SPLIT if by_split else "train"
        below = _pair_below(root / "train")
        if below:
            return _Layout(f"{split}/{below[0]}", f"{split}/{below[1]}", by_split)
        for name in top:
            end = name.removeprefix("train")
            if end and end != name and end.lstrip("_-. ").lower() in _LABEL_FOLDERS:
                return _Layout(split, f"{split}{end}", by_split)
        if _files(root / "train"):
            return _Layout(split, split, by_split, flat=True)
    if _files(root):
        return _Layout(".", ".", by_split=False, flat=True)
    held = ", ".join(sorted(top)[:8]) or "nothing"
    raise DatasetError(
        f"no images with labels were found below {root}, which holds {held}; put the images into a folder images and the labels, "
        "with the same names, into a folder labels."
    )


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise DatasetError(
            f"cannot list {folder}: {error.strerror or error}; give yourself read permission."
        ) from error


def _files(folder: Path) -> list[str]:
    return [
        entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name.lower().endswith(IMAGE_SUFFIXES)
    ]


def _pair_below(folder: Path) -> tuple[str, str] | None:
    lower = {name.lower(): name for name in _folders(folder)}
    images = next((lower[name] for name in _IMAGE_FOLDERS if name in lower), None)
    labels = next((lower[name] for name in _LABEL_FOLDERS if name in lower), None)
    return (images, labels) if images and labels else None


def _require_known_splits(folder: Path, inside: Iterable[str]) -> None:
    other = next((name for name in inside if name.lower() in _OTHER_VAL), None)
    if other and "train" in inside and "val" not in inside:
        raise DatasetError(
            f"the splits of a folder are called train and val, but {folder} holds {other}; rename it to val, in the labels as well."
        )


def _suffixes(root: Path, layout: _Layout) -> dict[str, str]:
    """Return ``image_suffix`` and ``label_suffix`` where the names of images and labels differ in their ends."""
    image_folder, label_folder = layout.folders(root, "train")
    extension = ""
    if layout.flat:
        counts = Counter(Path(name).suffix.lower() for name in _files(image_folder))
        photos = [suffix for suffix, _ in counts.most_common() if suffix not in LABEL_SUFFIXES]
        extension = photos[0] if photos else ""
    images = index_files(image_folder, IMAGE_SUFFIXES, extension)
    labels = index_files(label_folder, LABEL_SUFFIXES)
    together = layout.flat and not extension
    image_end, label_end = _ends_together(list(images)) if together else _ends(list(images), list(labels))
    if together and not image_end:
        raise DatasetError(
            f"images and labels lie together in {image_folder} and cannot be told apart by their names; put the labels, with the names of "
            "their images, into a folder labels, and the images into a folder images."
        )
    found = {"image_suffix": image_end + extension, "label_suffix": label_end}
    return {key: end for key, end in found.items() if end}


def _ends(images: Sequence[str], labels: Sequence[str]) -> tuple[str, str]:
    """Return the ends of the names of images and labels that give the most images a label."""
    candidates = [("", "")]
    candidates += [("", end) for end in _remainders(labels, images)]
    candidates += [(end, "") for end in _remainders(images, labels)]
    candidates += [(_tail(images), _tail(labels))]
    label_names = set(labels)

    def paired(ends: tuple[str, str]) -> int:
        image_end, label_end = ends
        stems = (name[: len(name) - len(image_end)] for name in images if name.endswith(image_end))
        return sum(f"{stem}{label_end}" in label_names for stem in stems)

    best = max(candidates, key=paired)
    return best if paired(best) else ("", "")


def _ends_together(names: Sequence[str]) -> tuple[str, str]:
    """Return the ends of images and of labels among names of both, such as ``_photo`` and ``_mask``; empty where there are none."""
    tails = Counter(name[max(name.rfind(letter) for letter in "_-. ") :] for name in names if set(name) & set("_-. "))
    labels = [tail for tail in tails if tail.strip("_-. ").lower() in _LABEL_FOLDERS]
    images = [tail for tail, _ in tails.most_common() if tail not in labels]
    return (images[0], labels[0]) if labels and images else ("", "")


def _remainders(longer: Sequence[str], shorter: Sequence[str]) -> list[str]:
    """Return what names of ``longer`` have behind one of ``shorter``, the most frequent first."""
    known = set(shorter)
    found: Counter[str] = Counter()
    for name in longer:
        cut = next((cut for cut in range(len(name) - 1, 0, -1) if name[:cut] in known), None)
        if cut:
            found[name[cut:]] += 1
    return [end for end, _ in found.most_common(3)]


def _tail(names: Sequence[str]) -> str:
    """Return the end that all names share, from a separator on."""
    shared = names[0] if names else ""
    while not all(name.endswith(shared) for name in names):
        shared = shared[1:]
    starts = [position for position, letter in enumerate(shared) if letter in "_-. "]
    return shared[starts[0] :] if starts and len(names) > 1 else ""


def _label_files(root: Path, layout: _Layout, options: Mapping[str, Any]) -> list[Path]:
    files: list[Path] = []
    for split in layout.splits:
        folder = layout.folders(root, split)[1]
        if not folder.is_dir():
            raise DatasetError(
                f"split {split} has no folder of labels: looked for {folder}; add it, or correct the data's path."
            )
        files += index_files(folder, LABEL_SUFFIXES, options.get("label_suffix", "")).values()
    if not files:
        raise DatasetError(
            f"no labels were found in {layout.folders(root, 'train')[1]}; labels are PNG, TIFF or BMP files with the names of their images."
        )
    return files


def _read_labels(files: Sequence[Path]) -> _Content:
    with ThreadPoolExecutor(worker_threads()) as threads:
        content = _sum(files, threads.map(_histogram, files))
        if content.colours and content.of_values:  # greys beside colours are colours
            again = _sum(content.of_values, threads.map(_grey_histogram, content.of_values))
            content.colours.update(again.colours)
    return content


def _sum(files: Sequence[Path], histograms: Iterable[tuple[bool, dict[int, int]]]) -> _Content:
    content = _Content()
    for path, (coloured, histogram) in zip(files, histograms, strict=True):
        (content.colours if coloured else content.values).update(histogram)
        if not coloured:
            content.of_values.append(path)
    return content


def _histogram(path: Path, *, grey: bool = False) -> tuple[bool, dict[int, int]]:
    """Return a label's pixels by packed colour (True) or by value (False)."""
    pixels = read_label(path)
    colours = as_colours(pixels, grey=True) if grey else pixels.colours
    numbers = packed_colours(colours) if colours is not None else pixels.values
    found, counts = np.unique(np.asarray(numbers), return_counts=True)
    return colours is not None, {int(number): int(count) for number, count in zip(found, counts, strict=True)}


def _grey_histogram(path: Path) -> tuple[bool, dict[int, int]]:
    return _histogram(path, grey=True)


def _values(root: Path, names: Sequence[str], content: _Content) -> RecognizedData:
    """Return how the values of labels stand for classes."""
    held = sorted(content.values)
    plain = [value for value in held if value != IGNORE_INDEX]
    binary = len(held) == 2 and IGNORE_INDEX in held
    if names:
        return _named_values(root, names, held, plain, content)
    if binary:
        plain = held
    if len(plain) < 2:
        raise DatasetError(
            f"labels need two classes at least, but those of {root} hold {_shares(content.values)}; correct the labels."
        )
    if len(plain) > _MANY:
        raise DatasetError(
            f"the labels of {root} hold {len(plain)} values, too many to be one class each without a list; export labels without "
            f"smoothed edges, or name the classes in {root / _CLASSES}, one a line, the first for 0."
        )
    made = ["background", "object"] if len(plain) == 2 else [f"class_{value}" for value in plain]
    note = f"there is no {_CLASSES}: the classes are named by the values in the labels, {_shares(content.values)}"
    return RecognizedData("folder", {"label_values": dict(zip(made, plain, strict=True))}, True, (note,))


def _named_values(
    root: Path, names: Sequence[str], held: Sequence[int], plain: Sequence[int], content: _Content
) -> RecognizedData:
    if len(names) == 2 and list(held) == [0, IGNORE_INDEX]:
        return RecognizedData("folder", {"label_values": dict(zip(names, held, strict=True))})
    if not plain or max(plain) < len(names):
        return RecognizedData("folder")
    if set(plain) <= set(range(1, len(names) + 1)):
        return RecognizedData("folder", {"first_id": 1}, notes=("the values in the labels count the classes from 1",))
    if set(plain) <= set(range(len(names) + 1)):
        note = "the values in the labels count the classes from 1; 0 is ignored"
        return RecognizedData("folder", {"first_id": 1, "ignore_ids": [0]}, notes=(note,))
    if len(plain) == len(names):
        values = dict(zip(names, plain, strict=True))
        note = f"the values in the labels, in order, are those of the {len(names)} lines of {_CLASSES}"
        return RecognizedData("folder", {"label_values": values}, notes=(note,))
    raise DatasetError(
        f"the labels must hold the classes of {root / _CLASSES}, {len(names)} lines, but hold {len(plain)} values: "
        f"{_shares(content.values)}; name each class there, or remove the file to have the classes named by their values."
    )


def _colours(
    root: Path, names: Sequence[str], listed: Sequence[tuple[int, int, int]], content: _Content
) -> RecognizedData:
    """Return how the colours of labels stand for classes."""
    ranked = [colour for colour, _ in content.colours.most_common()]
    shown = ", ".join(f'"{_hex(colour)}"' for colour in ranked[:6]) + (", …" if len(ranked) > 6 else "")
    if len(ranked) > _MANY + len(names):
        raise DatasetError(
            f"each colour of a label stands for a class, but the labels of {root} hold {len(ranked)} colours ({shown}); export labels "
            "without smoothed edges, as PNG, or name the colours that count with data.colours."
        )
    if listed:
        known = {red << 16 | green << 8 | blue for red, green, blue in listed}
        other = [colour for colour in ranked if colour not in known]
        pixels = sum(content.colours.values())
        ignored = sum(content.colours[colour] for colour in other) / pixels
        note = f"{len(other)} colours that {_CLASSES} does not list are ignored, {ignored:.1%} of the pixels"
        return RecognizedData(
            "folder", {"ignore_colours": [_hex(c) for c in other]} if other else {}, notes=(note,) if other else ()
        )
    if names:
        raise DatasetError(
            f"the labels of {root} hold colours, {shown}, and {_CLASSES} gives none: write each class's colour behind its name, such as "
            f"{names[0]} {_hex(ranked[0])}."
        )
    if len(ranked) < 2:
        raise DatasetError(
            f"labels need two classes at least, but those of {root} hold one colour, {shown}; correct the labels."
        )
    made = {f"colour_{_hex(colour)[1:]}": _hex(colour) for colour in ranked}
    note = f"there is no {_CLASSES}: the classes are named by the colours in the labels, {shown}"
    return RecognizedData("folder", {"colours": made}, True, (note,))


def _hex(packed: int) -> str:
    return f"#{packed:06x}"


def _shares(pixels: Mapping[int, int]) -> str:
    total = sum(pixels.values())
    ranked = sorted(pixels.items(), key=lambda item: -item[1])
    return ", ".join(f"{value} ({count / total:.1%})" for value, count in ranked[:6]) + (
        ", …" if len(ranked) > 6 else ""
    )
