"""Plain folder: ``images/<split>`` and ``labels/<split>``, or ``images`` and ``labels`` with a generated split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from objectives.data.base import IGNORE_INDEX, DatasetError, DatasetInfo
from objectives.data.file_data import FileData
from objectives.data.file_index import index_files, pair_files, require_folder, require_root, train_val_split
from objectives.data.survey import Colour
from objectives.data.text_file import read_lines
from search_spaces._common.palette import spread_palette

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
SPLIT = "{split}"
"""Stands for the split's name in ``image_folder`` and ``label_folder``."""
_MAX_CLASSES = IGNORE_INDEX
_MAX_VALUE = 65535
_NAME_AND_COLOUR = re.compile(
    r"(?P<name>.*\S)\s*[\s,;:]\s*(?:#(?P<hex>[0-9a-fA-F]{6})|"
    r"[(\[]?(?P<red>\d{1,3})[\s,;]+(?P<green>\d{1,3})[\s,;]+(?P<blue>\d{1,3})[)\]]?)"
)

ColourValue = str | Sequence[int]


def open_folder(
    root: Path | None,
    split: str,
    *,
    val_fraction: float = 0.2,
    colours: Mapping[str, ColourValue] | None = None,
    ignore_colours: Sequence[ColourValue] = (),
    label_values: Mapping[str, int | Sequence[int]] | None = None,
    first_id: int = 0,
    ignore_ids: Sequence[int] = (),
    image_suffix: str | None = None,
    label_suffix: str | None = None,
    image_folder: str = "images",
    label_folder: str = "labels",
    image_max: int | None = None,
) -> FileData:
    """Open a folder whose ``classes.txt`` lists one class a line; 255 in a label is ignored.

    Args:
        root: folder with ``images``, ``labels`` and ``classes.txt``.
        split: train, val or test.
        val_fraction: share of the images held out as val if ``images`` has no folders train and val.
        colours: colour of each class in the labels, ``[red, green, blue]`` or ``"#rrggbb"``; without ``classes.txt`` its names are
            the classes. Greyscale labels are then read as greys.
        ignore_colours: colours of pixels to be ignored.
        label_values: value, or values, of each class in the labels, 0 to 65535; without ``classes.txt`` its names are the classes.
        first_id: value in the labels of the first class of ``classes.txt``.
        ignore_ids: values of pixels to be ignored, beside 255.
        image_suffix, label_suffix: end of the file names before their extension, such as ``_mask``; with an extension, such as
            ``_mask.tif``, only files with it count.
        image_folder, label_folder: folders of the images and labels below ``root``; ``{split}`` in them is the split's name.
        image_max: value of white in images of more than 8 bits, 4095 for 12 bits; None: 65535.

    Raises:
        DatasetError: a file is missing, or an option does not fit the classes.
    """
    root = require_root("folder", root)
    names, listed = read_classes(root / "classes.txt", colours or label_values)
    given = _given_colours(names, colours) if colours is not None else listed
    colour_map: dict[Colour, int] | None = None
    if given:
        colour_map = _colour_map(names, given, [parse_colour(colour) for colour in ignore_colours])
    elif ignore_colours:
        raise DatasetError("data.ignore_colours needs the colour of each class: set data.colours as well.")
    id_map = _id_map(names, label_values, first_id, ignore_ids)
    info = DatasetInfo("folder", names, tuple(given) if given else spread_palette(len(names)))
    has_splits = SPLIT in image_folder or any((root / image_folder / name).is_dir() for name in ("train", "val"))
    images_below, labels_below = (
        require_folder("folder", split, what, [split_folder(root, pattern, split if has_splits else None)])
        for what, pattern in (("images", image_folder), ("labels", label_folder))
    )
    images = index_files(images_below, IMAGE_SUFFIXES, image_suffix or "")
    labels = index_files(labels_below, LABEL_SUFFIXES, label_suffix or "")
    pairs = pair_files("folder", split, images_below, images, labels_below, labels, IMAGE_SUFFIXES)
    if not has_splits:
        pairs = train_val_split("folder", split, pairs, val_fraction)
    return FileData(
        info,
        split,
        pairs,
        id_map,
        _ids_rule(names, id_map),
        colour_map=colour_map,
        grey_colours=colours is not None,
        image_max=image_max,
    )


def split_folder(root: Path, pattern: str, split: str | None) -> Path:
    """Return the folder of a split's images or labels; ``split`` is None where the folder has none of its own for each split."""
    if SPLIT in pattern:
        return root / pattern.replace(SPLIT, split or "")
    return root / pattern / (split or "")


def parse_colour(value: ColourValue) -> Colour:
    """Return a colour given as ``[red, green, blue]`` or ``"#rrggbb"``.

    Raises:
        DatasetError: it is neither.
    """
    if isinstance(value, str):
        digits = value.strip().removeprefix("#")
        if re.fullmatch(r"[0-9a-fA-F]{6}", digits):
            return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    elif len(value) == 3 and all(isinstance(part, int) and 0 <= part <= 255 for part in value):
        return value[0], value[1], value[2]
    raise DatasetError(
        f'a colour must be [red, green, blue], each 0 to 255, or "#rrggbb", but is {value!r}; correct it.'
    )


def read_classes(path: Path, named: Iterable[str] | None = None) -> tuple[tuple[str, ...], list[Colour]]:
    """Return the class names of ``classes.txt``, and their colours where every line ends in one.

    Args:
        path: the file.
        named: class names that count where there is no such file.

    Raises:
        DatasetError: there is no file and no name, or a line cannot be used.
    """
    try:
        lines = read_lines(path)
    except FileNotFoundError as error:
        if named is None:
            raise DatasetError(
                f"data set folder needs {path}, which is missing; write one class name per line."
            ) from error
        lines = list(named)
    matches = [_NAME_AND_COLOUR.fullmatch(line) for line in lines]
    listed: list[Colour] = []
    if all(matches):
        lines = [match["name"].rstrip(",;: ") for match in matches if match]
        listed = [_listed_colour(match, path) for match in matches if match]
    if not 2 <= len(lines) <= _MAX_CLASSES or len(set(lines)) != len(lines):
        raise DatasetError(
            f"{path} must name 2 to {_MAX_CLASSES} different classes, one per line, "
            f"but has {len(lines)} lines with {len(set(lines))} different names; correct it."
        )
    return tuple(lines), listed


def _listed_colour(match: re.Match[str], path: Path) -> Colour:
    if match["hex"]:
        return parse_colour(match["hex"])
    colour = (int(match["red"]), int(match["green"]), int(match["blue"]))
    if max(colour) > 255:
        raise DatasetError(
            f"{path} gives the class {match['name']} the colour {colour}, but parts go up to 255; correct it."
        )
    return colour


def _given_colours(names: Sequence[str], colours: Mapping[str, ColourValue]) -> list[Colour]:
    _require_all_classes("data.colours", names, colours)
    return [parse_colour(colours[name]) for name in names]


def _colour_map(names: Sequence[str], given: Sequence[Colour], ignored: Iterable[Colour]) -> dict[Colour, int]:
    found: dict[Colour, int] = {}
    for class_id, colour in enumerate(given):
        if colour in found:
            raise DatasetError(
                f"each class needs a colour of its own, but {names[found[colour]]} and {names[class_id]} share {colour}; correct it."
            )
        found[colour] = class_id
    for colour in ignored:
        if colour in found:
            raise DatasetError(
                f"data.ignore_colours names {colour}, the colour of the class {names[found[colour]]}; give it to one of them."
            )
    return found | dict.fromkeys(ignored, IGNORE_INDEX)


def _id_map(
    names: Sequence[str],
    label_values: Mapping[str, int | Sequence[int]] | None,
    first_id: int,
    ignore_ids: Sequence[int],
) -> dict[int, int]:
    """Return the class id, or 255, of each value in the labels."""
    classes: dict[int, int] = {}
    if label_values is None:
        classes = {first_id + class_id: class_id for class_id in range(len(names))}
    else:
        if first_id:
            raise DatasetError("data.label_values gives the value of each class: leave data.first_id out.")
        _require_all_classes("data.label_values", names, label_values)
        for class_id, name in enumerate(names):
            value = label_values[name]
            for one in [value] if isinstance(value, int) else value:
                if one in classes:
                    raise DatasetError(
                        f"data.label_values gives {one} to the classes {names[classes[one]]} and {name}; give it to one of them."
                    )
                classes[one] = class_id
    wrong = [value for value in (*classes, *ignore_ids) if not 0 <= value <= _MAX_VALUE]
    if wrong:
        raise DatasetError(
            f"values in labels lie between 0 and {_MAX_VALUE}, but the configuration names {wrong[0]}; correct it."
        )
    both = [value for value in ignore_ids if value in classes]
    if both:
        raise DatasetError(
            f"data.ignore_ids names {both[0]}, the value of the class {names[classes[both[0]]]}; set data.first_id or "
            "data.label_values where the classes have other values, or leave it out."
        )
    return {IGNORE_INDEX: IGNORE_INDEX} | classes | dict.fromkeys(ignore_ids, IGNORE_INDEX)


def _require_all_classes(key: str, names: Sequence[str], given: Mapping[str, object]) -> None:
    unknown, missing = [name for name in given if name not in names], [name for name in names if name not in given]
    if unknown:
        raise DatasetError(
            f"{key} names {unknown[0]!r}, which classes.txt does not list; its classes are {', '.join(names)}."
        )
    if missing:
        raise DatasetError(f"{key} must name each class, but {missing[0]!r} is missing; add it.")


def _ids_rule(names: Sequence[str], id_map: Mapping[int, int]) -> str:
    values = sorted(value for value, class_id in id_map.items() if class_id != IGNORE_INDEX)
    ignored = sorted(value for value, class_id in id_map.items() if class_id == IGNORE_INDEX)
    consecutive = values == list(range(values[0], values[0] + len(values)))
    shown = f"{values[0]} to {values[-1]}" if consecutive else ", ".join(map(str, values))
    also = f" or {', '.join(map(str, ignored))}" if ignored else ""
    return f"{shown} ({len(names)} lines in classes.txt){also}"
