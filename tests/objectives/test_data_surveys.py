"""A folder is read as its options say, and what its labels hold is compared with what it declares."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from objectives.data import DatasetError, Judgement, SplitSurvey, judge, open_dataset, survey_split

COLOURS = {"ground": (0, 0, 0), "house": (128, 0, 0), "road": (0, 128, 0)}
SIZE = (8, 12)


def ids(seed: int) -> np.ndarray:
    """Class ids with the three classes in thirds, turned about by the seed."""
    return np.roll(np.repeat(np.arange(3, dtype=np.uint8), 32).reshape(SIZE), seed, axis=1)


def make(
    root: Path, save: Any = lambda label, path, number: Image.fromarray(label).save(path), *, label_end: str = ""
) -> Path:
    """Write 3 images to train and 2 to val; ``save`` writes a label's ids."""
    (root / "classes.txt").parent.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("ground\nhouse\nroad\n")
    for split, count in (("train", 3), ("val", 2)):
        for what in ("images", "labels"):
            (root / what / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
            Image.fromarray(picture).save(root / "images" / split / f"{number}.png")
            save(ids(number), root / "labels" / split / f"{number}{label_end}.png", number)
    return root


def labels(root: Path, split: str = "train", **options: Any) -> list[np.ndarray]:
    data = open_dataset("folder", root=root, split=split, **options)
    data.check()
    return [data.label(index) for index in range(len(data))]


def read_as_made(root: Path, **options: Any) -> None:
    """Assert that the labels come back as the ids that were written."""
    for number, label in enumerate(labels(root, **options)):
        np.testing.assert_array_equal(label, ids(number))


def complaint(root: Path, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        labels(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def judged(root: Path, *, declared: bool = True, image_max: int | None = None, **options: Any) -> Judgement:
    opened = [open_dataset("folder", root=root, split=split, **options) for split in ("train", "val")]
    train, val = (survey_split(data) for data in opened)
    assert train is not None and val is not None
    return judge(opened[0].info, train, val, declared=declared, image_max=image_max)


def rgb(label: np.ndarray) -> np.ndarray:
    return np.array(list(COLOURS.values()), np.uint8)[label]


def ordered_palette(label: np.ndarray, path: Path, number: int) -> None:
    """A palette in another order in every other file, as optimising exporters write them."""
    order = [0, 2, 1] if number % 2 else [0, 1, 2]
    picture = Image.fromarray(np.argsort(order).astype(np.uint8)[label])
    picture.putpalette([part for key in order for part in list(COLOURS.values())[key]])
    picture.save(path)


# -- colours and palettes


def test_colours_become_classes_by_name(tmp_path: Path) -> None:
    make(tmp_path, lambda label, path, number: Image.fromarray(rgb(label)).save(path))
    assert "data.colours" in complaint(tmp_path)
    given = {"road": "#008000", "ground": [0, 0, 0], "house": (128, 0, 0)}
    read_as_made(tmp_path, colours=given)
    assert open_dataset("folder", root=tmp_path, split="val", colours=given).info.palette == tuple(COLOURS.values())
    assert "(0, 128, 0) (32 pixels" in complaint(tmp_path, colours=given | {"road": (1, 2, 3)})
    assert "'road' is missing" in complaint(tmp_path, colours={"ground": (0, 0, 0), "house": (128, 0, 0)})
    assert "share (0, 0, 0)" in complaint(tmp_path, colours=given | {"road": (0, 0, 0)})
    assert "does not list" in complaint(tmp_path, colours=given | {"tree": (9, 9, 9)})
    (tmp_path / "classes.txt").unlink()
    read_as_made(tmp_path, colours=COLOURS)


def test_colours_to_be_ignored(tmp_path: Path) -> None:
    make(tmp_path, lambda label, path, number: Image.fromarray(rgb(label)).save(path))
    (tmp_path / "classes.txt").write_text("ground\nhouse\n")
    two = {"ground": (0, 0, 0), "house": (128, 0, 0)}
    assert "unknown colours" in complaint(tmp_path, colours=two)
    found = labels(tmp_path, colours=two, ignore_colours=["#008000"])[0]
    np.testing.assert_array_equal(found, np.where(ids(0) == 2, 255, ids(0)))
    assert "needs the colour of each class" in complaint(tmp_path, ignore_colours=["#008000"])


def test_greys_are_colours_where_colours_are_given(tmp_path: Path) -> None:
    make(tmp_path, lambda label, path, number: Image.fromarray(label * 100).save(path))
    read_as_made(tmp_path, colours={"ground": (0, 0, 0), "house": (100, 100, 100), "road": (200, 200, 200)})


def test_palettes_in_different_order_are_refused_or_mapped_by_colour(tmp_path: Path) -> None:
    make(tmp_path, ordered_palette)
    message = complaint(tmp_path)
    assert "labels/train/0.png" in message and "labels/train/1.png" in message
    assert "value 1 is (128, 0, 0)" in message and "data.colours" in message
    read_as_made(tmp_path, colours=COLOURS)
    (tmp_path / "classes.txt").write_text("ground 0 0 0\nhouse, 128, 0, 0\nroad #008000\n")
    read_as_made(tmp_path)
    assert open_dataset("folder", root=tmp_path, split="val").info.class_names == tuple(COLOURS)


def test_palettes_that_leave_unused_colours_out_are_refused(tmp_path: Path) -> None:
    def save(label: np.ndarray, path: Path, number: int) -> None:
        if number == 1:  # holds ground and road only, as values 0 and 1
            picture = Image.fromarray((label == 2).astype(np.uint8))
            picture.putpalette([0, 0, 0, 0, 128, 0])
        else:
            picture = Image.fromarray(np.where(label == 1, 0, label).astype(np.uint8))
            picture.putpalette([part for colour in COLOURS.values() for part in colour])
        picture.save(path)

    make(tmp_path, save)
    assert "(0, 128, 0) has value 2" in complaint(tmp_path)


def test_palettes_of_train_and_val_are_compared(tmp_path: Path) -> None:
    make(tmp_path, ordered_palette)
    for path in (tmp_path / "labels/train").iterdir():
        ordered_palette(ids(int(path.stem)), path, 0)
    for path in (tmp_path / "labels/val").iterdir():
        ordered_palette(ids(int(path.stem)), path, 1)
    assert any("palette labels must give each value one colour" in error for error in judged(tmp_path).errors)


# -- values


def test_ids_that_count_from_one(tmp_path: Path) -> None:
    make(tmp_path, lambda label, path, number: Image.fromarray(label + 1).save(path))
    assert "data.first_id: 1" in complaint(tmp_path)
    read_as_made(tmp_path, first_id=1)
    Image.fromarray(ids(0) * 0).save(tmp_path / "labels/train/0.png")
    assert "holds 0 " in complaint(tmp_path, first_id=1)
    assert (labels(tmp_path, first_id=1, ignore_ids=[0])[0] == 255).all()
    assert "the value of the class ground" in complaint(tmp_path, ignore_ids=[0])


def test_values_of_classes(tmp_path: Path) -> None:
    values = np.array([0, 255, 1000], np.uint16)
    make(tmp_path, lambda label, path, number: Image.fromarray(values[label]).save(path))
    assert "holds 1000" in complaint(tmp_path)
    read_as_made(tmp_path, label_values={"ground": 0, "house": 255, "road": [999, 1000]})
    assert "gives 0 to the classes" in complaint(tmp_path, label_values={"ground": 0, "house": 0, "road": 1})
    assert "'road' is missing" in complaint(tmp_path, label_values={"ground": 0, "house": 1})
    assert "leave data.first_id out" in complaint(
        tmp_path, label_values={"ground": 0, "house": 1, "road": 2}, first_id=1
    )


# -- files and folders


def test_suffixes_in_any_case_and_names_in_other_case(tmp_path: Path) -> None:
    make(tmp_path, label_end="_MASK")
    assert "set data.label_suffix to _MASK" in complaint(tmp_path)
    read_as_made(tmp_path, label_suffix="_mask")
    read_as_made(tmp_path, label_suffix="_mask.png")
    for path in (tmp_path / "images/train").iterdir():
        path.rename(path.with_name(f"Scene é {path.stem}.PNG"))
    for path in (tmp_path / "labels/train").iterdir():
        path.rename(path.with_name(f"scene e\u0301 {path.stem[0]}.png"))
    read_as_made(tmp_path)


def test_names_that_differ_in_case_only_keep_to_their_own_labels(tmp_path: Path) -> None:
    make(tmp_path)
    for what in ("images", "labels"):
        for old, new in (("0", "a"), ("1", "A")):
            (tmp_path / what / f"train/{old}.png").rename(tmp_path / what / f"train/{new}.png")
    data = open_dataset("folder", root=tmp_path, split="train")
    assert [data.name(index) for index in range(3)] == ["2", "A", "a"]
    np.testing.assert_array_equal(data.label(1), ids(1))
    (tmp_path / "labels/train/A.png").unlink()
    assert "has none" in complaint(tmp_path)


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path / "near")
    make(tmp_path / "far")
    for what in ("images", "labels"):
        train = tmp_path / "near" / what / "train"
        (train / "0 far").symlink_to(tmp_path / "far" / what / "train")
        (train / "again").symlink_to(train)
        (tmp_path / "far" / what / "train" / "back").symlink_to(train)
        (train / "twice").symlink_to(tmp_path / "far" / what / "train")
        (train / "itself").symlink_to(train / "itself")
        (train / "above").symlink_to(tmp_path / "near")
    data = open_dataset("folder", root=tmp_path / "near", split="train")
    data.check()
    assert [data.name(index) for index in range(len(data))] == ["0", "0 far/0", "0 far/1", "0 far/2", "1", "2"]


def test_what_systems_leave_in_folders_is_skipped(tmp_path: Path) -> None:
    make(tmp_path)
    for name in (
        "@eaDir/0.png/a.png",
        "__MACOSX/0.png",
        "._0.png",
        ".DS_Store",
        "Thumbs.db",
        ".hidden/b.png",
        "#recycle/c.png",
    ):
        for what in ("images", "labels"):
            path = tmp_path / what / "train" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\0")
    read_as_made(tmp_path)


def test_tiff_labels_and_jpeg_labels(tmp_path: Path) -> None:
    make(tmp_path)
    for path in list((tmp_path / "labels/train").iterdir()):
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
    read_as_made(tmp_path)
    for path in list((tmp_path / "labels/train").iterdir()):
        Image.open(path).save(path.with_suffix(".JPG"))
        path.unlink()
    assert "0.JPG is there, but labels are PNG" in complaint(tmp_path)


def test_an_image_of_another_format_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "images/train/1.png").rename(tmp_path / "images/train/1.heic")
    assert "1.heic is there, but images are files of .png" in complaint(tmp_path)


def test_names_with_odd_characters(tmp_path: Path) -> None:
    make(tmp_path)
    odd = "a\nb 'c' \"d\" %s {e} \\ ☃"
    raw = os.fsencode(tmp_path / "images/train") + b"/\xff\xfe.png"
    for what in ("images", "labels"):
        (tmp_path / what / "train/1.png").rename(tmp_path / what / f"train/{odd}.png")
        (tmp_path / what / "train/2.png").rename(os.fsdecode(raw.replace(b"images", os.fsencode(what))))
    data = open_dataset("folder", root=tmp_path, split="train")
    survey = survey_split(data, tmp_path / "cache")
    assert survey is not None and len(survey.digests) == 3 and odd in survey.digests
    assert survey_split(data, tmp_path / "cache") == survey
    (tmp_path / f"labels/train/{odd}.png").write_bytes(b"")
    assert "it is empty" in complaint(tmp_path)


def test_exif_of_an_image_whose_label_was_drawn_on_its_stored_pixels(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "images/train/1.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    message = complaint(tmp_path)
    assert "EXIF orientation (6)" in message and "labels/train/1.png" in message and "8x12" in message
    data = open_dataset("folder", root=tmp_path, split="train")
    with pytest.raises(DatasetError, match="EXIF"):
        data.pair(1)


# -- what the labels hold


def test_a_class_without_a_pixel_in_train_is_an_error_with_the_fix(tmp_path: Path) -> None:
    make(tmp_path, lambda label, path, number: Image.fromarray((label > 0).astype(np.uint8) * 255).save(path))
    (tmp_path / "classes.txt").write_text("background\nobject\n")
    (error,) = judged(tmp_path).errors
    assert "the class object (id 1)" in error and "255 (66.7%)" in error
    assert "data.label_values to {background: 0, object: 255}" in error
    assert any("67% of the pixels of split train are ignored" in text for text in judged(tmp_path).warnings)
    assert judged(tmp_path, declared=False).errors == ()
    assert any("object" in text for text in judged(tmp_path, declared=False).warnings)
    assert judged(tmp_path, label_values={"background": 0, "object": 255}) == Judgement((), ())


def test_classes_rare_or_missing_in_val_are_warned_of_with_counts(tmp_path: Path) -> None:
    make(tmp_path)
    assert judged(tmp_path) == Judgement((), ())
    for path in (tmp_path / "labels/val").iterdir():
        Image.fromarray(np.where(ids(0) == 2, 1, ids(0)).astype(np.uint8)).save(path)
    (warning,) = judged(tmp_path).warnings
    assert "none of the 2 labels of split val holds a pixel of road (96 pixels in 3 images of train)" in warning
    big = np.zeros((200, 200), np.uint8)
    big[0, :2] = 2
    big[1:100] = 1
    Image.fromarray(big).save(tmp_path / "labels/val/0.png")
    Image.new("RGB", (200, 200)).save(tmp_path / "images/val/0.png")
    (warning,) = judged(tmp_path).warnings
    assert "split val" in warning and "road (2 pixels in 1 image)" in warning


def test_images_of_twelve_bits_need_their_white(tmp_path: Path) -> None:
    make(tmp_path)
    values = np.linspace(0, 4095, 96).astype(np.uint16).reshape(SIZE)
    for path in (tmp_path / "images").rglob("*.png"):
        Image.fromarray(values).save(path)
    (error,) = judged(tmp_path).errors
    assert "4095" in error and "data.image_max" in error
    assert judged(tmp_path, image_max=4095) == Judgement((), ())


# -- fingerprints


def test_copies_have_one_fingerprint_and_other_content_another(tmp_path: Path) -> None:
    def survey(root: Path) -> SplitSurvey:
        found = survey_split(open_dataset("folder", root=root, split="train"), tmp_path / "cache")
        assert found is not None
        return found

    make(tmp_path / "a")
    make(tmp_path / "b")
    first = survey(tmp_path / "a")
    assert first.fingerprint == survey(tmp_path / "b").fingerprint
    assert SplitSurvey.from_dict(first.to_dict()) == first
    label = tmp_path / "b/labels/train/0.png"
    Image.fromarray(ids(0)).save(label, compress_level=1)  # the same ids in other bytes
    assert first.fingerprint == survey(tmp_path / "b").fingerprint
    Image.fromarray(ids(1)).save(label)
    redrawn = survey(tmp_path / "b")
    assert redrawn.fingerprint != first.fingerprint
    assert [name for name in first.digests if first.digests[name] != redrawn.digests[name]] == ["0"]


def test_unchanged_files_are_surveyed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    data: Any = open_dataset("folder", root=tmp_path, split="train")
    first = survey_split(data, tmp_path / "cache")
    monkeypatch.setattr(data, "survey", lambda: pytest.fail("read again"))
    assert survey_split(data, tmp_path / "cache") == first
    stored = next((tmp_path / "cache").glob("*-survey.json"))
    stored.write_text("{damaged")
    monkeypatch.undo()
    assert survey_split(data, tmp_path / "cache") == first
