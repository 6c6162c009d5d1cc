"""Pascal VOC 2012: ``JPEGImages``, ``SegmentationClass`` and the lists of ``ImageSets/Segmentation``."""

from __future__ import annotations

from pathlib import Path

from objectives.data.base import IGNORE_INDEX, DatasetInfo
from objectives.data.file_data import FileData
from objectives.data.file_index import first_folder, listed_pairs, read_list, require_folder, require_root
from search_spaces._common.palette import spread_palette

_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining_table",
    "dog",
    "horse",
    "motorbike",
    "person",
    "potted_plant",
    "sheep",
    "sofa",
    "train",
    "tv_monitor",
)
INFO = DatasetInfo("voc", _CLASSES, spread_palette(len(_CLASSES)))


def open_voc(root: Path | None, split: str) -> FileData:
    """Open Pascal VOC 2012 with 21 classes including the background; 255 (outlines) is ignored.

    ``root`` is the folder VOC2012, or one with ``VOC2012`` or ``VOCdevkit/VOC2012``. Labels of the test split were never published.
    """
    root = require_root("voc", root)
    top = first_folder([root / "VOCdevkit" / "VOC2012", root / "VOC2012"]) or root
    images = require_folder("voc", split, "images", [top / "JPEGImages"])
    labels = require_folder("voc", split, "labels", [top / "SegmentationClass"])
    names = read_list("voc", split, top / "ImageSets" / "Segmentation" / f"{split}.txt")
    pairs = listed_pairs("voc", split, [(n, images / f"{n}.jpg", labels / f"{n}.png") for n in names])
    id_map = {class_id: class_id for class_id in range(len(_CLASSES))} | {IGNORE_INDEX: IGNORE_INDEX}
    return FileData(INFO, split, pairs, id_map, f"0 to {len(_CLASSES) - 1} or 255")
