"""Cityscapes: ``leftImg8bit/<split>/<city>/*_leftImg8bit.png`` with ``gtFine/<split>/<city>/*_gtFine_labelIds.png``."""

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

# Train id order; the first number is the id in *_labelIds.png (cityscapesScripts, helpers/labels.py).
_CLASSES: dict[str, tuple[int, tuple[int, int, int]]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic_light": (19, (250, 170, 30)),
    "traffic_sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
INFO = DatasetInfo("cityscapes", tuple(_CLASSES), tuple(colour for _, colour in _CLASSES.values()))
TRAIN_ID_OF_LABEL_ID = {label_id: train_id for train_id, (label_id, _) in enumerate(_CLASSES.values())}
_LABEL_IDS = range(34)


def open_cityscapes(root: Path | None, split: str) -> FileData:
    """Open Cityscapes with 19 classes; ``*_labelTrainIds.png`` are read for a split without ``*_labelIds.png``."""
    root = require_root("cityscapes", root)
    image_folder = require_folder("cityscapes", split, "images", [root / "leftImg8bit" / split])
    label_folder = require_folder("cityscapes", split, "labels", [root / "gtFine" / split])
    images = index_files(image_folder, IMAGE_SUFFIXES, "_leftImg8bit")
    labels = index_files(label_folder, LABEL_SUFFIXES, "_gtFine_labelIds")
    id_map = {label_id: TRAIN_ID_OF_LABEL_ID.get(label_id, IGNORE_INDEX) for label_id in _LABEL_IDS}
    rule = "label ids 0 to 33"
    if not labels:
        labels = index_files(label_folder, LABEL_SUFFIXES, "_gtFine_labelTrainIds")
        id_map = {train_id: train_id for train_id in range(len(_CLASSES))}
        rule = f"train ids 0 to {len(_CLASSES) - 1}, or {IGNORE_INDEX}"
    pairs = pair_files("cityscapes", split, image_folder, images, label_folder, labels)
    return FileData(INFO, split, pairs, id_map | {IGNORE_INDEX: IGNORE_INDEX}, rule)
