"""A folder of images and labels is recognized, and what is recognized can be opened as it was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from objectives.data import DatasetError, open_dataset
from objectives.data.recognition import recognize_data

NAMES = ("one", "two", "three", "four")
ROWS = (24, 32)


def photo(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*ROWS, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def label(path: Path, *values: int | tuple[int, int, int]) -> None:
    """Each value or colour in its own rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.array([values[row % len(values)] for row in range(ROWS[0])], np.uint8)
    Image.fromarray(np.repeat(rows[:, None], ROWS[1], axis=1)).save(path)


def plain(root: Path) -> None:
    for name in NAMES:
        photo(root / "images" / f"{name}.jpg")
        label(root / "labels" / f"{name}.png", 0, 1, 3, 255)


def other_names(root: Path) -> None:
    for name in NAMES:
        photo(root / "Imgs" / f"{name}.jpg")
        label(root / "masks" / f"{name}_mask.png", 0, 1, 3, 255)


def splits_inside(root: Path) -> None:
    for split in ("train", "val"):
        for name in NAMES:
            photo(root / "images" / split / f"{name}.jpg")
            label(root / "masks" / split / f"{name}.png", 0, 1, 3, 255)


def splits_outside(root: Path) -> None:
    for split in ("train", "val"):
        for name in NAMES:
            photo(root / split / "rgb" / f"{name}_rgb.png")
            label(root / split / "gt" / f"{name}_gt.png", 0, 1, 3, 255)


def labels_beside_splits(root: Path) -> None:
    for split in ("train", "val"):
        for name in NAMES:
            photo(root / split / f"{name}.png")
            label(root / f"{split}_labels" / f"{name}_L.png", 0, 1, 3, 255)


def train_alone(root: Path) -> None:
    for name in NAMES:
        photo(root / "images" / "train" / f"{name}.jpg")
        label(root / "labels" / "train" / f"{name}.png", 0, 1, 3, 255)


def together(root: Path) -> None:
    for name in NAMES:
        photo(root / f"{name}.jpg")
        label(root / f"{name}.png", 0, 1, 3, 255)


def together_with_ends(root: Path) -> None:
    for name in NAMES:
        photo(root / f"{name}_photo.png")
        label(root / f"{name}_mask.png", 0, 1, 3, 255)


@pytest.mark.parametrize(
    "build",
    [
        plain,
        other_names,
        splits_inside,
        splits_outside,
        labels_beside_splits,
        train_alone,
        together,
        together_with_ends,
    ],
)
def test_a_layout_is_recognized_and_opens(build: Callable[[Path], None], tmp_path: Path):
    build(tmp_path)
    found = recognize_data(tmp_path)
    assert found.kind == "folder" and found.invented
    train, val = (open_dataset("folder", root=tmp_path, split=split, **found.options) for split in ("train", "val"))
    assert train.info.class_names == ("class_0", "class_1", "class_3")
    held_out = not (tmp_path / "images/val").is_dir() and not (tmp_path / "val").is_dir()
    assert len(train) + len(val) == (len(NAMES) if held_out else 2 * len(NAMES))
    image, ids = train.pair(0)
    assert image.shape == (*ROWS, 3) and set(np.unique(ids)) == {0, 1, 2, 255}


@pytest.mark.parametrize(
    ("classes", "values", "options"),
    [
        ("road\ncar\nsky\n", (0, 1, 2, 255), {}),
        ("road\ncar\nsky\n", (1, 2, 3), {"first_id": 1}),
        ("road\ncar\nsky\n", (0, 1, 2, 3), {"first_id": 1, "ignore_ids": [0]}),
        ("road\ncar\n", (0, 255), {"label_values": {"road": 0, "car": 255}}),
        ("road\ncar\n", (7, 11), {"label_values": {"road": 7, "car": 11}}),
        (None, (0, 255), {"label_values": {"background": 0, "object": 255}}),
        (None, (0, 1), {"label_values": {"background": 0, "object": 1}}),
    ],
)
def test_values_stand_for_the_classes(
    classes: str | None, values: tuple[int, ...], options: dict[str, object], tmp_path: Path
):
    for name in NAMES:
        photo(tmp_path / "images" / f"{name}.jpg")
        label(tmp_path / "labels" / f"{name}.png", *values)
    if classes:
        (tmp_path / "classes.txt").write_text(classes)
    assert recognize_data(tmp_path).options == options


def test_colours_stand_for_the_classes(tmp_path: Path):
    road, car, void = (128, 64, 128), (0, 0, 142), (0, 0, 0)
    for name in NAMES:
        photo(tmp_path / "images" / f"{name}.jpg")
        label(tmp_path / "labels" / f"{name}.png", road, road, car, void)
    colours = recognize_data(tmp_path).options["colours"]
    assert next(iter(colours.items())) == ("colour_804080", "#804080")  # the most frequent first
    assert set(colours.values()) == {"#804080", "#000000", "#00008e"}
    (tmp_path / "classes.txt").write_text("road 128 64 128\ncar 0 0 142\n")
    assert recognize_data(tmp_path).options == {"ignore_colours": ["#000000"]}
    (tmp_path / "classes.txt").write_text("road\ncar\nvoid\n")
    with pytest.raises(DatasetError, match="write each class's colour behind its name, such as road #804080"):
        recognize_data(tmp_path)


def test_a_grey_label_among_coloured_ones_is_read_as_colours(tmp_path: Path):
    for number, name in enumerate(NAMES):
        photo(tmp_path / "images" / f"{name}.jpg")
        label(tmp_path / "labels" / f"{name}.png", *((0, 200) if number == 1 else ((0, 0, 0), (255, 0, 0))))
    assert set(recognize_data(tmp_path).options["colours"].values()) == {"#000000", "#ff0000", "#c8c8c8"}


def no_folder(root: Path) -> None:
    root.rmdir()


def nothing(root: Path) -> None:
    (root / "notes").mkdir()


def photos_alone(root: Path) -> None:
    for name in NAMES:
        photo(root / f"{name}.jpg")


def smoothed(root: Path) -> None:
    for name in NAMES:
        photo(root / "images" / f"{name}.png")
        photo(root / "labels" / f"{name}.png", seed=1)


def grey_ramp(root: Path) -> None:
    for name in NAMES:
        photo(root / "images" / f"{name}.png")
        path = root / "labels" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.arange(24 * 32, dtype=np.uint8).reshape(ROWS)).save(path)


def misnamed_split(root: Path) -> None:
    for split in ("train", "valid"):
        photo(root / "images" / split / "a.jpg")
        label(root / "labels" / split / "a.png", 0, 1)


def too_few_names(root: Path) -> None:
    plain(root)
    (root / "classes.txt").write_text("road\ncar\n")
    label(root / "labels" / "one.png", 0, 1, 5, 9)


def one_class(root: Path) -> None:
    for name in NAMES:
        photo(root / "images" / f"{name}.jpg")
        label(root / "labels" / f"{name}.png", 4)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (no_folder, "does not exist"),
        (nothing, "which holds notes; put the images into a folder images"),
        (photos_alone, "no labels were found"),
        (smoothed, "without smoothed edges"),
        (grey_ramp, "hold 255 values, too many"),
        (misnamed_split, "rename it to val"),
        (too_few_names, "2 lines, but hold 5 values"),
        (one_class, "labels need two classes at least"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(build: Callable[[Path], None], told: str, tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    build(root)
    with pytest.raises(DatasetError) as error:
        recognize_data(root)
    assert told in str(error.value) and "\n" not in str(error.value)
