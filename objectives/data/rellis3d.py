"""RELLIS-3D: off-road scenes by sequence, ``NNNNN/pylon_camera_node`` with ``NNNNN/pylon_camera_node_label_id``, and split lists."""

from __future__ import annotations

from pathlib import Path

from objectives.data.base import IGNORE_INDEX, DatasetError, DatasetInfo
from objectives.data.file_data import FileData
from objectives.data.file_index import first_folder, listed_pairs, read_list, require_root
from search_spaces._common.palette import spread_palette

# Value in *_label_id/*.png of each class, by the release's ontology; 0 is void.
_CLASSES = {
    "dirt": 1,
    "grass": 3,
    "tree": 4,
    "pole": 5,
    "water": 6,
    "sky": 7,
    "vehicle": 8,
    "object": 9,
    "asphalt": 10,
    "building": 12,
    "log": 15,
    "person": 17,
    "fence": 18,
    "bush": 19,
    "concrete": 23,
    "barrier": 27,
    "puddle": 31,
    "mud": 33,
    "rubble": 34,
}
INFO = DatasetInfo("rellis3d", tuple(_CLASSES), spread_palette(len(_CLASSES)))
_IMAGES, _LABELS = "Rellis_3D_pylon_camera_node", "Rellis_3D_pylon_camera_node_label_id"


def open_rellis3d(root: Path | None, split: str) -> FileData:
    """Open RELLIS-3D with 19 classes; void is ignored.

    ``root`` holds the unpacked downloads (images, label ids, split lists), each with the folder ``Rellis-3D`` inside, or all in one
    folder of sequences beside ``train.lst``, ``val.lst`` and ``test.lst``: lines of image and label, relative to the sequences.
    """
    root = require_root("rellis3d", root)
    images = first_folder([root / _IMAGES / "Rellis-3D", root / _IMAGES, root / "Rellis-3D"]) or root
    labels = first_folder([root / _LABELS / "Rellis-3D", root / _LABELS, root / "Rellis-3D"]) or root
    places = [root / "Rellis_3D_image_split", root / "Rellis-3D", root]
    folder = next((place for place in places if (place / f"{split}.lst").is_file()), root)
    entries = []
    for line in read_list("rellis3d", split, folder / f"{split}.lst"):
        image, _, label = line.partition(" ")
        if not label.strip():
            raise DatasetError(
                f"each line of {folder / f'{split}.lst'} must name an image and its label, but one is {line!r}; restore the file."
            )
        entries.append((image.rpartition(".")[0], images / image, labels / label.strip()))
    pairs = listed_pairs("rellis3d", split, entries)
    id_map = {value: class_id for class_id, value in enumerate(_CLASSES.values())}
    id_map |= {0: IGNORE_INDEX, IGNORE_INDEX: IGNORE_INDEX}
    return FileData(
        INFO, split, pairs, id_map, "the ontology's: 0 (void), 1, 3 to 10, 12, 15, 17 to 19, 23, 27, 31, 33, 34"
    )
