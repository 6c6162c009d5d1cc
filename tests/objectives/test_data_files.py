"""Every kind of folder is read in its real layout, and each defect is named in one sentence before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from objectives.data import KINDS, DatasetError, SegmentationData, open_dataset
from search_spaces._common.errors import UserError

SIZE = (24, 32)
NAMES = ("a", "b", "c")


def save(path: Path, array: np.ndarray) -> Path:
    """Lossless whatever the suffix says: readers go by the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, format="PNG")
    return path


def image_array(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def label_array(*values: int) -> np.ndarray:
    """Each value in its own rows."""
    return np.resize(np.repeat(np.array(values, np.uint8), SIZE[1]), SIZE[0] * SIZE[1]).reshape(SIZE)


def make_camvid(root: Path, label: np.ndarray) -> tuple[Path, Path]:
    for number, name in enumerate(NAMES):
        save(root / "train" / f"{name}.png", image_array(number))
        save(root / "trainannot" / f"{name}.png", label)
    return root / "train" / "b.png", root / "trainannot" / "b.png"


def make_lpcvc(root: Path, label: np.ndarray) -> tuple[Path, Path]:
    top = root / "LPCVC_Train_Updated"
    for number, name in enumerate(NAMES):
        save(top / "IMG" / "train" / f"{name}.png", image_array(number))
        save(top / "GT_Updated" / "train" / f"{name}.png", label)
    return top / "IMG/train/b.png", top / "GT_Updated/train/b.png"


def make_cityscapes(root: Path, label: np.ndarray, ending: str = "labelIds") -> tuple[Path, Path]:
    images, labels = root / "leftImg8bit/train/aachen", root / "gtFine/train/aachen"
    for number, name in enumerate(NAMES):
        stem = f"aachen_00000{name}_000019"
        save(images / f"{stem}_leftImg8bit.png", image_array(number))
        save(labels / f"{stem}_gtFine_{ending}.png", label)
        save(labels / f"{stem}_gtFine_color.png", image_array(number))
        save(labels / f"{stem}_gtFine_instanceIds.png", label)
        (labels / f"{stem}_gtFine_polygons.json").write_text("{}")
    stem = "aachen_00000b_000019"
    return images / f"{stem}_leftImg8bit.png", labels / f"{stem}_gtFine_{ending}.png"


def make_ade20k(root: Path, label: np.ndarray) -> tuple[Path, Path]:
    top = root / "ADEChallengeData2016"
    for number, name in enumerate(NAMES):
        save(top / "images/training" / f"{name}.jpg", image_array(number))
        save(top / "annotations/training" / f"{name}.png", label)
    rows = [f"{n}\t0.1\t1\t1\t0\t{'screen' if n in (131, 142) else f'thing {n}, other'}" for n in range(1, 151)]
    (top / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]))
    return top / "images/training/b.jpg", top / "annotations/training/b.png"


def make_voc(root: Path, label: np.ndarray) -> tuple[Path, Path]:
    top = root / "VOCdevkit" / "VOC2012"
    for number, name in enumerate((*NAMES, "unlisted")):
        save(top / "JPEGImages" / f"{name}.jpg", image_array(number))
        save(top / "SegmentationClass" / f"{name}.png", label)
    (top / "ImageSets/Segmentation").mkdir(parents=True)
    (top / "ImageSets/Segmentation/train.txt").write_text("b\na\nc\n\n")
    return top / "JPEGImages/b.jpg", top / "SegmentationClass/b.png"


def make_rellis3d(root: Path, label: np.ndarray) -> tuple[Path, Path]:
    images = root / "Rellis_3D_pylon_camera_node/Rellis-3D"
    labels = root / "Rellis_3D_pylon_camera_node_label_id/Rellis-3D"
    lines = []
    for number, name in enumerate(NAMES):
        image, annotation = f"00000/pylon_camera_node/{name}.jpg", f"00000/pylon_camera_node_label_id/{name}.png"
        save(images / image, image_array(number))
        save(labels / annotation, label)
        lines.append(f"{image} {annotation}\n")
    (root / "Rellis_3D_image_split").mkdir()
    (root / "Rellis_3D_image_split/train.lst").write_text("".join(lines))
    return images / "00000/pylon_camera_node/b.jpg", labels / "00000/pylon_camera_node_label_id/b.png"


def make_folder(root: Path, label: np.ndarray) -> tuple[Path, Path]:
    for number, name in enumerate(NAMES):
        save(root / "images/train" / f"{name}.png", image_array(number))
        save(root / "labels/train" / f"{name}.png", label)
    (root / "classes.txt").write_text("ground\nhouse\nroad\n")
    return root / "images/train/b.png", root / "labels/train/b.png"


MAKERS: dict[str, Callable[[Path, np.ndarray], tuple[Path, Path]]] = {
    "camvid": make_camvid,
    "lpcvc": make_lpcvc,
    "cityscapes": make_cityscapes,
    "ade20k": make_ade20k,
    "voc": make_voc,
    "rellis3d": make_rellis3d,
    "folder": make_folder,
}
# (values in the file, what they become)
CODES = {
    "camvid": ((0, 3, 10, 11, 255), (0, 3, 10, 255, 255)),
    "lpcvc": ((0, 7, 13, 14, 255), (0, 7, 13, 255, 255)),
    "cityscapes": ((0, 7, 11, 26, 33), (255, 0, 2, 13, 18)),
    "ade20k": ((0, 1, 150, 255), (255, 0, 149, 255)),
    "voc": ((0, 1, 20, 255), (0, 1, 20, 255)),
    "rellis3d": ((0, 1, 3, 34), (255, 0, 1, 18)),
    "folder": ((0, 1, 2, 255), (0, 1, 2, 255)),
}
GOOD = {kind: label_array(*CODES[kind][0]) for kind in MAKERS}


@pytest.fixture(params=list(MAKERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def open_train(kind: str, root: Path) -> SegmentationData:
    return open_dataset(kind, root=root, split="train")


def complaint(act: Callable[[], object]) -> str:
    with pytest.raises(DatasetError) as caught:
        act()
    assert isinstance(caught.value, UserError)
    message = str(caught.value)
    assert "\n" not in message
    assert message[-1] in ".?)"
    return message


def test_every_folder_kind_is_covered() -> None:
    assert set(MAKERS) == set(KINDS) - {"synthetic"}


def test_reads_images_and_maps_label_ids(kind: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path, GOOD[kind])
    data = open_train(kind, tmp_path)
    data.check()
    assert len(data) == len(NAMES)
    assert [data.name(index).split("/")[-1].replace("aachen_00000", "")[0] for index in range(3)] == list(NAMES)
    image, label = data.pair(1)
    np.testing.assert_array_equal(image, image_array(1))
    np.testing.assert_array_equal(label, label_array(*CODES[kind][1]))
    assert label.dtype == np.uint8
    assert data.label_hw(1) == SIZE
    assert (data.image(1) == image).all()
    assert (data.label(1) == label).all()


def test_missing_root(kind: str, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert str(nowhere) in complaint(lambda: open_train(kind, nowhere))
    assert "root" in complaint(lambda: open_dataset(kind, root=None, split="train"))


def test_missing_split(kind: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path, GOOD[kind])
    assert "split test" in complaint(lambda: open_dataset(kind, root=tmp_path, split="test"))


def test_image_without_label_and_label_without_image(kind: str, tmp_path: Path) -> None:
    image, label = MAKERS[kind](tmp_path, GOOD[kind])
    kept = label.read_bytes()
    label.unlink()
    assert str(image) in complaint(lambda: open_train(kind, tmp_path))
    label.write_bytes(kept)
    image.unlink()
    assert str(label) in complaint(lambda: open_train(kind, tmp_path))


def test_truncated_label(kind: str, tmp_path: Path) -> None:
    _, label = MAKERS[kind](tmp_path, GOOD[kind])
    whole = label.read_bytes()
    for end in (-5, -20, len(whole) // 2, 0):
        label.write_bytes(whole[:end])
        assert str(label) in complaint(open_train(kind, tmp_path).check)


def test_truncated_or_undecodable_image(kind: str, tmp_path: Path) -> None:
    image, _ = MAKERS[kind](tmp_path, GOOD[kind])
    whole = image.read_bytes()
    for content in (whole[: len(whole) // 2], b"not a picture", b""):
        image.write_bytes(content)
        assert str(image) in complaint(open_train(kind, tmp_path).check)


def test_label_of_another_size(kind: str, tmp_path: Path) -> None:
    _, label = MAKERS[kind](tmp_path, GOOD[kind])
    save(label, GOOD[kind][:-4])
    message = complaint(open_train(kind, tmp_path).check)
    assert str(label) in message
    assert "32x20" in message
    assert "32x24" in message


def test_colour_coded_label(kind: str, tmp_path: Path) -> None:
    _, label = MAKERS[kind](tmp_path, GOOD[kind])
    save(label, image_array())
    message = complaint(open_train(kind, tmp_path).check)
    assert str(label) in message
    assert "one channel" in message


def test_file_that_vanishes_after_opening(kind: str, tmp_path: Path) -> None:
    _, label = MAKERS[kind](tmp_path, GOOD[kind])
    data = open_train(kind, tmp_path)
    label.unlink()
    assert str(label) in complaint(data.check)


def test_split_without_a_labelled_pixel(kind: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path, label_array(255))
    assert "every one" in complaint(open_train(kind, tmp_path).check)


@pytest.mark.parametrize(("kind", "value"), [("camvid", 12), ("cityscapes", 34), ("folder", 3)])
def test_id_out_of_range(kind: str, value: int, tmp_path: Path) -> None:
    _, label = MAKERS[kind](tmp_path, GOOD[kind])
    save(label, label_array(0, 1, value))
    message = complaint(open_train(kind, tmp_path).check)
    assert str(label) in message
    assert f"holds {value} " in message


def test_sixteen_bit_id_out_of_range(tmp_path: Path) -> None:
    _, label = make_folder(tmp_path, GOOD["folder"])
    save(label, np.full(SIZE, 300, np.uint16))
    assert "holds 300 " in complaint(open_train("folder", tmp_path).check)
    save(label, np.full(SIZE, 2, np.uint16))
    open_train("folder", tmp_path).check()


def test_several_defects_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path, GOOD["folder"])
    for name in ("a", "c"):
        save(tmp_path / f"labels/train/{name}.png", label_array(9))
    message = complaint(open_train("folder", tmp_path).check)
    assert "a.png" in message
    assert "2 files" in message


def test_cityscapes_train_ids(tmp_path: Path) -> None:
    make_cityscapes(tmp_path, label_array(0, 18, 255), "labelTrainIds")
    data = open_train("cityscapes", tmp_path)
    data.check()
    assert np.unique(data.label(0)).tolist() == [0, 18, 255]


def test_lpcvc_original_layout_and_three_equal_channels(tmp_path: Path) -> None:
    for top in ("LPCVC_Train", "LPCVC_Val"):
        save(tmp_path / top / "IMG" / "x.png", image_array())
        save(tmp_path / top / "GT" / "x.png", np.stack([GOOD["lpcvc"]] * 3, axis=-1))
    for split in ("train", "val"):
        data = open_dataset("lpcvc", root=tmp_path, split=split)
        data.check()
        np.testing.assert_array_equal(data.label(0), label_array(*CODES["lpcvc"][1]))


def test_lpcvc_val_can_be_held_out_of_train(tmp_path: Path) -> None:
    make_lpcvc(tmp_path, GOOD["lpcvc"])
    assert "val_fraction" in complaint(lambda: open_dataset("lpcvc", root=tmp_path, split="val"))
    names = [
        {data.name(index) for index in range(len(data))}
        for data in (open_dataset("lpcvc", root=tmp_path, split=split, val_fraction=0.3) for split in ("train", "val"))
    ]
    assert [len(part) for part in names] == [2, 1]
    assert names[0] | names[1] == set(NAMES)


def test_folder_without_split_folders_makes_a_stable_split(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("ground\nhouse\n")
    for number in range(20):
        save(tmp_path / "images" / f"{number:02d}.png", image_array(number))
        save(tmp_path / "labels" / f"{number:02d}.png", label_array(0, 1))
    train, val = (open_dataset("folder", root=tmp_path, split=split, val_fraction=0.25) for split in ("train", "val"))
    train_names, val_names = ({data.name(index) for index in range(len(data))} for data in (train, val))
    assert (len(train_names), len(val_names)) == (15, 5)
    assert not train_names & val_names
    again = open_dataset("folder", root=tmp_path, split="val", val_fraction=0.25)
    assert [again.name(index) for index in range(5)] == [val.name(index) for index in range(5)]
    assert "val_fraction" in complaint(lambda: open_dataset("folder", root=tmp_path, split="val", val_fraction=1.5))


def test_folder_needs_class_names(tmp_path: Path) -> None:
    make_folder(tmp_path, GOOD["folder"])
    (tmp_path / "classes.txt").write_text("ground\nground\n")
    assert "classes.txt" in complaint(lambda: open_train("folder", tmp_path))
    (tmp_path / "classes.txt").unlink()
    assert "classes.txt" in complaint(lambda: open_train("folder", tmp_path))


def test_palette_label_is_read_by_index(tmp_path: Path) -> None:
    _, label = make_folder(tmp_path, GOOD["folder"])
    picture = Image.fromarray(label_array(0, 1, 2)).convert("P")
    picture.putdata(label_array(0, 1, 2).ravel().tolist())
    picture.putpalette([value for colour in ((9, 9, 9), (200, 0, 0), (0, 200, 0)) for value in colour])
    picture.save(label)
    data = open_train("folder", tmp_path)
    data.check()
    np.testing.assert_array_equal(data.label(1), label_array(0, 1, 2))


def test_unknown_kind_split_and_option_name_the_nearest(tmp_path: Path) -> None:
    assert "'camvid'" in complaint(lambda: open_dataset("camvd", root=tmp_path, split="train"))
    assert "'val'" in complaint(lambda: open_dataset("camvid", root=tmp_path, split="vall"))
    message = complaint(lambda: open_dataset("synthetic", root=None, split="train", height=96))
    assert "'height_px'" in message
    assert "no options" in complaint(lambda: open_dataset("camvid", root=tmp_path, split="train", images=3))


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    _, label = make_folder(tmp_path, GOOD["folder"])
    before = open_train("folder", tmp_path).fingerprint()
    assert open_train("folder", tmp_path).fingerprint() == before
    save(label, label_array(1, 1, 0, 2, 2))
    assert open_train("folder", tmp_path).fingerprint() != before


def test_real_camvid(shared_dir: Path) -> None:
    root = shared_dir / "datasets" / "camvid"
    if not root.is_dir():
        pytest.skip(f"no CamVid at {root}")
    for split, images in (("train", 367), ("val", 101)):
        data = open_dataset("camvid", root=root, split=split)
        data.check()
        assert len(data) == images
        assert data.info.num_classes == 11
        image, label = data.pair(0)
        assert image.shape == (360, 480, 3)
        assert set(np.unique(label)) <= {*range(11), 255}


def test_ade20k_takes_its_names_from_the_release_and_tells_equal_ones_apart(tmp_path: Path) -> None:
    make_ade20k(tmp_path, GOOD["ade20k"])
    names = open_train("ade20k", tmp_path).info.class_names
    assert names[0] == "thing_1" and (names[130], names[141]) == ("screen_131", "screen_142")
    (tmp_path / "ADEChallengeData2016/objectInfo150.txt").unlink()
    assert open_train("ade20k", tmp_path).info.class_names[149] == "class_150"


def test_only_listed_images_belong_to_a_split(tmp_path: Path) -> None:
    make_voc(tmp_path, GOOD["voc"])
    data = open_train("voc", tmp_path / "VOCdevkit")
    assert [data.name(index) for index in range(len(data))] == ["a", "b", "c"]
    listed = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    listed.write_text("a\na\n")
    assert "lists a twice" in complaint(lambda: open_train("voc", tmp_path))
    listed.write_text("\n")
    assert "at least one image" in complaint(lambda: open_train("voc", tmp_path))
