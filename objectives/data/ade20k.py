"""ADE20K's scene parsing benchmark: ``images/{training,validation}`` with ``annotations/{training,validation}``, 150 classes."""

from __future__ import annotations

from pathlib import Path

from objectives.data.base import IGNORE_INDEX, DatasetError, DatasetInfo
from objectives.data.file_data import FileData
from objectives.data.file_index import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    first_folder,
    index_files,
    pair_files,
    require_folder,
    require_root,
)
from objectives.data.text_file import read_lines
from search_spaces._common.palette import spread_palette

CLASSES = 150
_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
_NAMES_FILE = "objectInfo150.txt"


def open_ade20k(root: Path | None, split: str) -> FileData:
    """Open ADE20K with 150 classes.

    Files hold 1 to 150 for the classes and 0 for everything else, which is ignored. Class names are read from the release's
    ``objectInfo150.txt`` if it exists. ``root`` is the folder ADEChallengeData2016, or its parent.
    """
    root = require_root("ade20k", root)
    top = first_folder([root / "ADEChallengeData2016"]) or root
    image_folder = require_folder("ade20k", split, "images", [top / "images" / _FOLDERS[split]])
    label_folder = require_folder("ade20k", split, "labels", [top / "annotations" / _FOLDERS[split]])
    images, labels = index_files(image_folder, IMAGE_SUFFIXES), index_files(label_folder, LABEL_SUFFIXES)
    pairs = pair_files("ade20k", split, image_folder, images, label_folder, labels)
    info = DatasetInfo("ade20k", _names(top / _NAMES_FILE), spread_palette(CLASSES))
    id_map = {value: value - 1 for value in range(1, CLASSES + 1)} | {0: IGNORE_INDEX, IGNORE_INDEX: IGNORE_INDEX}
    return FileData(info, split, pairs, id_map, "1 to 150, or 0 for what is none of them")


def _names(path: Path) -> tuple[str, ...]:
    """Return the first name of each class, numbered where two classes share it; ``class_N`` without the file."""
    if not path.is_file():
        return tuple(f"class_{number}" for number in range(1, CLASSES + 1))
    rows = [line.split("\t") for line in read_lines(path)[1:]]
    names = {int(row[0]): row[-1].split(",")[0].strip().replace(" ", "_") for row in rows if row[0].strip().isdigit()}
    if sorted(names) != list(range(1, CLASSES + 1)):
        raise DatasetError(
            f"{path} must name the classes 1 to {CLASSES}, but names {len(names)}; restore it or remove it."
        )
    listed = [names[number] for number in range(1, CLASSES + 1)]
    return tuple(f"{name}_{n}" if listed.count(name) > 1 else name for n, name in enumerate(listed, start=1))
