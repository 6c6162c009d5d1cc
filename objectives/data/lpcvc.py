"""LPCVC 2023 (UAV disaster scenes): ``LPCVC_Train_Updated/{IMG,GT_Updated}/train`` or ``LPCVC_Train/{IMG,GT}``."""

from __future__ import annotations

from pathlib import Path

from objectives.data.base import IGNORE_INDEX, DatasetInfo
from objectives.data.file_data import FileData
from objectives.data.file_index import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    FilePair,
    first_folder,
    index_files,
    pair_files,
    require_folder,
    require_root,
    train_val_split,
)

# The data set defines no colours.
CLASSES: dict[str, tuple[int, int, int]] = {
    "background": (60, 110, 60),
    "avalanche": (235, 240, 250),
    "building_undamaged": (70, 130, 180),
    "building_damaged": (200, 80, 160),
    "cracks_fissure_subsidence": (60, 30, 10),
    "debris_mud_rock_flow": (150, 105, 60),
    "fire_flare": (255, 120, 0),
    "flood_water_river_sea": (20, 60, 200),
    "ice_jam_flow": (130, 220, 240),
    "lava_flow": (200, 0, 0),
    "person": (255, 230, 0),
    "pyroclastic_flow": (110, 90, 130),
    "road_railway_bridge": (90, 90, 90),
    "vehicle": (0, 230, 120),
}
INFO = DatasetInfo("lpcvc", tuple(CLASSES), tuple(CLASSES.values()))


def open_lpcvc(root: Path | None, split: str, *, val_fraction: float | None = None) -> FileData:
    """Open LPCVC 2023 with 14 classes; ids from 14 on are ignored, as in the referee.

    Args:
        root: folder with ``LPCVC_Train*`` and ``LPCVC_Val*``.
        split: train, val or test.
        val_fraction: share of the train folder held out as val if there is no ``LPCVC_Val*``.
    """
    root = require_root("lpcvc", root)
    if val_fraction is not None and split in ("train", "val"):
        pairs = train_val_split("lpcvc", split, _read_pairs(root, "train"), val_fraction)
    else:
        pairs = _read_pairs(root, split)
    id_map = {value: value if value < len(CLASSES) else IGNORE_INDEX for value in range(256)}
    # The referee reads the first channel of three-channel labels, so such labels exist.
    return FileData(INFO, split, pairs, id_map, "0 to 255", equal_channels=True)


def _read_pairs(root: Path, split: str) -> list[FilePair]:
    bases = [root / f"LPCVC_{split.capitalize()}_Updated", root / f"LPCVC_{split.capitalize()}"]
    base = first_folder(bases)
    hint = ", or hold part of train out with val_fraction: 0.1" if split == "val" else ""
    image_tops = [top / "IMG" for top in ([base] if base else bases)]
    label_names = ("GT_Updated", "GT")
    image_folder = require_folder("lpcvc", split, "images", [p for top in image_tops for p in (top / split, top)], hint)
    top = image_folder.parent if image_folder.name == "IMG" else image_folder.parent.parent
    label_folders = [folder for name in label_names for folder in (top / name / split, top / name)]
    label_folder = require_folder("lpcvc", split, "labels", label_folders)
    images, labels = index_files(image_folder, IMAGE_SUFFIXES), index_files(label_folder, LABEL_SUFFIXES)
    return pair_files("lpcvc", split, image_folder, images, label_folder, labels)
