"""Plain folder: ``images/<split>`` and ``labels/<split>``, or ``images`` and ``labels`` with a generated split."""

from __future__ import annotations

from pathlib import Path

from objectives.data.base import IGNORE_INDEX, DatasetError, DatasetInfo
from objectives.data.file_data import FileData
from objectives.data.file_index import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    index_files,
    pair_files,
    require_folder,
    require_root,
    train_val_split,
)
from search_spaces._common.palette import spread_palette

_MAX_CLASSES = IGNORE_INDEX


def open_folder(root: Path | None, split: str, *, val_fraction: float = 0.2) -> FileData:
    """Open a folder whose ``classes.txt`` lists one class a line, from id 0; 255 in a label is ignored.

    Args:
        root: folder with ``images``, ``labels`` and ``classes.txt``.
        split: train, val or test.
        val_fraction: share of the images held out as val if ``images`` has no folders train and val.
    """
    root = require_root("folder", root)
    names = _read_classes(root / "classes.txt")
    info = DatasetInfo("folder", names, spread_palette(len(names)))
    has_splits = (root / "images" / "train").is_dir() or (root / "images" / "val").is_dir()
    below = Path(split) if has_splits else Path()
    image_folder = require_folder("folder", split, "images", [root / "images" / below])
    label_folder = require_folder("folder", split, "labels", [root / "labels" / below])
    images, labels = index_files(image_folder, IMAGE_SUFFIXES), index_files(label_folder, LABEL_SUFFIXES)
    pairs = pair_files("folder", split, image_folder, images, label_folder, labels)
    if not has_splits:
        pairs = train_val_split("folder", split, pairs, val_fraction)
    id_map = {class_id: class_id for class_id in range(len(names))} | {IGNORE_INDEX: IGNORE_INDEX}
    return FileData(info, split, pairs, id_map, f"0 to {len(names) - 1} ({len(names)} lines in classes.txt) or 255")


def _read_classes(path: Path) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except FileNotFoundError as error:
        raise DatasetError(f"data set folder needs {path}, which is missing; write one class name per line.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} must be a readable UTF-8 text file: {error}; save it as one.") from error
    if not 2 <= len(names) <= _MAX_CLASSES or len(set(names)) != len(names):
        raise DatasetError(
            f"{path} must name 2 to {_MAX_CLASSES} different classes, one per line, "
            f"but has {len(names)} lines with {len(set(names))} different names; correct it."
        )
    return names
