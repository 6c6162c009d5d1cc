"""Splits as arrays: the right resolutions, decoded once, shared safely between processes."""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from objectives.data import DatasetError, SegmentationData, decoded_parts, load_arrays, open_dataset
from search_spaces._common.errors import UserError

INPUT = (16, 24)


def make_folder(root: Path, sizes: list[tuple[int, int]]) -> SegmentationData:
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / part / "val").mkdir(parents=True)
    for number, size in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / f"images/val/{number}.png")
        Image.fromarray(rng.choice(np.array([0, 1, 255], np.uint8), size)).save(root / f"labels/val/{number}.png")
    (root / "classes.txt").write_text("ground\nhouse\n")
    return open_dataset("folder", root=root, split="val")


@pytest.mark.parametrize("cached", [False, True])
def test_labels_keep_their_own_resolution(tmp_path: Path, cached: bool) -> None:
    data = make_folder(tmp_path / "data", [(40, 60)] * 3)
    arrays = load_arrays(data, INPUT, cache_dir=tmp_path / "cache" if cached else None)
    assert arrays.images.shape == (3, *INPUT, 3)
    assert arrays.train_labels.shape == (3, *INPUT)
    assert isinstance(arrays.labels, np.ndarray)
    for index in range(3):
        np.testing.assert_array_equal(arrays.labels[index], data.label(index))
    assert set(np.unique(arrays.train_labels)) <= {0, 1, 255}
    smooth = np.asarray(Image.fromarray(data.image(1)).resize(INPUT[::-1], Image.Resampling.BOX), float)
    assert np.abs(arrays.images[1] - smooth).mean() < 25  # antialiased: picking pixels of noise would be twice as far


@pytest.mark.parametrize("cached", [False, True])
def test_labels_of_several_sizes_come_as_a_list(tmp_path: Path, cached: bool) -> None:
    data = make_folder(tmp_path / "data", [(40, 60), (30, 50), (20, 20)])
    arrays = load_arrays(data, INPUT, cache_dir=tmp_path / "cache" if cached else None)
    assert isinstance(arrays.labels, list)
    for index in range(3):
        np.testing.assert_array_equal(arrays.labels[index], data.label(index))
    assert len(arrays) == 3


def test_second_load_decodes_nothing_and_full_labels_are_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_folder(tmp_path / "data", [(40, 60)] * 2)
    cache = tmp_path / "cache"
    first = load_arrays(data, INPUT, cache_dir=cache)
    load_arrays(data, (8, 8), cache_dir=cache)
    assert len([path for path in cache.glob("*-labels.npy") if "x" not in path.name.split("-")[-2]]) == 1
    with monkeypatch.context() as patch:
        patch.setattr(type(data), "pair", lambda *_: pytest.fail("decoded again"))
        again = load_arrays(data, INPUT, cache_dir=cache)
    np.testing.assert_array_equal(first.images, again.images)
    assert isinstance(again.images, np.memmap)
    assert not again.images.flags.writeable


def test_parts_are_the_whole_split_a_few_at_a_time(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data", [(40, 60), (20, 30)] * 20)
    whole, parts = load_arrays(data, INPUT, cache_dir=None), list(decoded_parts(data, INPUT))
    assert [len(part) for part in parts] == [32, 8]
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), whole.images)
    np.testing.assert_array_equal(np.concatenate([part.train_labels for part in parts]), whole.train_labels)
    labels = [label for part in parts for label in part.labels]
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(labels, whole.labels, strict=True))


def test_labels_can_be_left_out(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data", [(40, 60)] * 2)
    arrays = load_arrays(data, INPUT, cache_dir=tmp_path / "cache", with_labels=False)
    assert len(arrays.labels) == 0
    assert len(load_arrays(data, INPUT, cache_dir=tmp_path / "cache").labels) == 2


def test_changed_file_is_decoded_again(tmp_path: Path) -> None:
    root = tmp_path / "data"
    data = make_folder(root, [(40, 60)] * 2)
    before = load_arrays(data, INPUT, cache_dir=tmp_path / "cache").images.copy()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(root / "images/val/0.png")
    after = load_arrays(open_dataset("folder", root=root, split="val"), INPUT, cache_dir=tmp_path / "cache")
    assert before[0].any()
    assert not after.images[0].any()


def test_failed_decoding_leaves_no_entry(tmp_path: Path) -> None:
    root = tmp_path / "data"
    data = make_folder(root, [(40, 60)] * 3)
    good = (root / "images/val/2.png").read_bytes()
    (root / "images/val/2.png").write_bytes(good[:200])
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"2\.png"):
            load_arrays(data, INPUT, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*-images.npy"))
    (root / "images/val/2.png").write_bytes(good)
    assert load_arrays(data, INPUT, cache_dir=tmp_path / "cache").images[2].any()


def test_cache_dir_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = open_dataset("synthetic", root=None, split="train", images=1, height_px=32, width_px=32)
    with pytest.raises(UserError, match="file"):
        load_arrays(data, (32, 32), cache_dir=tmp_path / "file" / "cache")


def _load_with_little_room(root: Path, cache: Path, results: object) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        load_arrays(open_dataset("folder", root=root, split="val"), INPUT, cache_dir=cache)
    except UserError as error:
        results.put(str(error))  # type: ignore[attr-defined]


def test_no_room_for_the_cache_is_a_sentence_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    make_folder(tmp_path / "data", [(64, 96)] * 20)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_load_with_little_room, args=(tmp_path / "data", tmp_path / "cache", results))
    process.start()
    assert str(tmp_path / "cache") in results.get(timeout=60)
    process.join()
    assert process.exitcode == 0
    assert not list((tmp_path / "cache").glob("*-images.npy"))
    assert not list((tmp_path / "cache").glob(".*"))


def test_nothing_is_written_into_the_data_set(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data", [(40, 60)])
    before = sorted((tmp_path / "data").rglob("*"))
    data.check()
    load_arrays(data, INPUT, cache_dir=tmp_path / "cache")
    assert sorted((tmp_path / "data").rglob("*")) == before


def _load_in_a_process(root: Path, cache: Path, start: object, results: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    arrays = load_arrays(open_dataset("folder", root=root, split="val"), INPUT, cache_dir=cache)
    results.put((int(arrays.images.sum()), int(np.asarray(arrays.labels, np.int64).sum())))  # type: ignore[attr-defined]


def test_processes_may_race(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data", [(64, 96)] * 20)
    expected = load_arrays(data, INPUT, cache_dir=None)
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    arguments = (tmp_path / "data", tmp_path / "cache", start, results)
    racers = [context.Process(target=_load_in_a_process, args=arguments) for _ in range(4)]
    for racer in racers:
        racer.start()
    start.set()
    sums = [results.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join()
    assert set(sums) == {(int(expected.images.sum()), int(np.asarray(expected.labels, np.int64).sum()))}
    assert len(list((tmp_path / "cache").glob("*-images.npy"))) == 1
    assert not list((tmp_path / "cache").glob(".*"))
