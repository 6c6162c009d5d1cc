"""Every way of storing pixels is read with the right values, or refused by name."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from objectives.data import DatasetError
from objectives.data.image_file import deep_maximum, read_header, read_image, read_label
from objectives.data.text_file import read_lines

STORED = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6) * 10
# What each EXIF orientation makes of the stored pixels, in words of the standard: where row 0 and column 0 are shown.
UPRIGHT = {
    1: STORED,
    2: STORED[:, ::-1],
    3: STORED[::-1, ::-1],
    4: STORED[::-1],
    5: STORED.T,
    6: STORED[::-1].T,
    7: STORED[::-1, ::-1].T,
    8: STORED.T[::-1],
}


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def write_png(path: Path, values: np.ndarray, bits: int) -> None:
    """A PNG of any depth: Pillow writes 16 bits for one channel only, and no greys of 2 or 4 bits."""
    channels = values.shape[2] if values.ndim == 3 else 1
    if bits == 16:
        rows = [b"\0" + row.astype(">u2").tobytes() for row in values]
    else:
        spread = np.unpackbits(values[:, :, None].astype(np.uint8), axis=2)[:, :, -bits:]
        rows = [b"\0" + np.packbits(row.ravel()).tobytes() for row in spread]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    )


def refusal(path: Path, what: str = "image") -> str:
    with pytest.raises(DatasetError) as caught:
        (read_image if what == "image" else read_label)(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_images_and_labels_are_turned_as_exif_says(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(np.stack([STORED] * 3, axis=2)).save(path, exif=exif(orientation), **options)
    expected = UPRIGHT[orientation]
    np.testing.assert_array_equal(read_image(path)[..., 0], expected)
    header = read_header(path)
    assert header.size_hw == expected.shape
    assert header.stored_hw == STORED.shape
    if suffix != "webp":
        Image.fromarray(STORED).save(path, exif=exif(orientation))
        values = read_label(path).values
        assert values is not None
        np.testing.assert_array_equal(values, expected)


def test_an_unreadable_or_unknown_orientation_counts_as_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture = Image.fromarray(np.stack([STORED] * 3, axis=2))
    for content in (exif(9), b"Exif\0\0 no exif at all"):
        picture.save(path, exif=content)
        assert read_image(path).shape == (4, 6, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_a_white_and_a_black_half_stay_so_in_every_mode_of_8_bits(mode: str, tmp_path: Path) -> None:
    half = np.zeros((4, 6, 3), np.uint8)
    half[:, 3:] = 255
    Image.fromarray(half).convert(mode).save(tmp_path / "a.tif")
    found = read_image(tmp_path / "a.tif")
    assert found.shape == (4, 6, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), half.astype(int), atol=3)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_by_one_factor(suffix: str, tmp_path: Path) -> None:
    values = np.array([[0, 256, 257, 4095, 30000, 65535]] * 2, np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    expected = [0, 1, 1, 16, 117, 255]
    found = read_image(tmp_path / f"a.{suffix}")
    assert found[0, :, 0].tolist() == expected and (found == found[..., :1]).all()
    dark = np.minimum(values, 4095)
    Image.fromarray(dark).save(tmp_path / f"b.{suffix}")
    assert read_image(tmp_path / f"b.{suffix}")[0, :, 0].tolist() == [
        0,
        1,
        1,
        16,
        16,
        16,
    ]  # not by the image's own maximum
    assert read_image(tmp_path / f"b.{suffix}", 4095)[0, :, 0].tolist() == [0, 16, 16, 255, 255, 255]
    assert deep_maximum(tmp_path / f"b.{suffix}") == 4095
    assert read_header(tmp_path / f"b.{suffix}").deep
    with pytest.raises(DatasetError, match=r"between 0 and data.image_max \(4095\), but .* holds 65535"):
        read_image(tmp_path / f"a.{suffix}", 4095)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_a_colour_keep_the_high_byte(channels: int, tmp_path: Path) -> None:
    values = np.full((2, 3, channels), 65535, np.uint16)
    values[0, :, : min(channels, 3)] = 0x8040
    values[0, :, 1:2] = 65535 if channels == 2 else 0x8040
    write_png(tmp_path / "a.png", values, 16)
    assert read_image(tmp_path / "a.png")[:, 0].tolist() == [[128] * 3, [255] * 3]
    assert read_header(tmp_path / "a.png").deep
    with pytest.raises(DatasetError, match="holds colours of 16 bits"):
        read_image(tmp_path / "a.png", 4095)


def test_thirty_two_bits_are_read_within_16_bits_and_floats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 65535]], np.int32)).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 255]
    Image.fromarray(np.array([[0, 500000]], np.int32)).save(path)
    assert "holds 500000" in refusal(path)
    assert read_image(path, 1_000_000)[0, :, 0].tolist() == [0, 128]
    Image.fromarray(np.array([[-1, 5]], np.int32)).save(path)
    assert "holds -1" in refusal(path)
    Image.fromarray(np.array([[0.5, 1.0]], np.float32)).save(path)
    assert "32-bit floating point" in refusal(path)
    assert "floating point" in refusal(path, "label")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_keep_their_ids(bits: int, tmp_path: Path) -> None:
    values = np.arange(16).reshape(2, 8) % 2**bits
    write_png(tmp_path / "a.png", values, bits)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").values, values)


def test_labels_with_opaque_alpha_are_read_and_transparent_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for alpha, fine in ((255, True), (0, False)):
        Image.fromarray(np.dstack([STORED, np.full_like(STORED, alpha)])).save(path)
        if fine:
            np.testing.assert_array_equal(read_label(path).values, STORED)
        else:
            assert "opaque" in refusal(path, "label")
        Image.fromarray(np.dstack([STORED] * 3 + [np.full_like(STORED, alpha)])).save(path)
        if fine:
            assert read_label(path).colours is not None
        else:
            assert "opaque" in refusal(path, "label")


def test_lossy_labels_and_several_pages_are_refused(tmp_path: Path) -> None:
    picture = Image.fromarray(STORED)
    picture.save(tmp_path / "a.png", format="JPEG")
    assert "JPEG, which blurs class ids" in refusal(tmp_path / "a.png", "label")
    picture.save(tmp_path / "a.tif", save_all=True, append_images=[picture, picture])
    assert "holds 3 pages" in refusal(tmp_path / "a.tif")
    Image.new("CMYK", (3, 3)).save(tmp_path / "b.tif")
    assert "pixels of mode CMYK" in refusal(tmp_path / "b.tif", "label")


def test_an_image_over_the_limit_is_to_be_cut_into_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(STORED).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)
    for what in ("image", "label"):
        assert "more than 22 pixels" in refusal(tmp_path / "a.png", what)
        assert "into tiles" in refusal(tmp_path / "a.png", what) and "attack" not in refusal(tmp_path / "a.png", what)


def test_pipes_folders_and_dangling_links_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for what in ("image", "label"):
        assert "regular file" in refusal(tmp_path / "pipe.png", what)
        assert "regular file" in refusal(tmp_path / "folder.png", what)
        assert "gone.png, which does not exist" in refusal(tmp_path / "link.png", what)
        refusal(tmp_path / "loop.png", what)


def test_files_that_would_fill_the_memory_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(10**12)
    for what in ("image", "label"):
        assert "2 GB at most" in refusal(tmp_path / "huge.png", what)
    with pytest.raises(DatasetError, match="2 GB at most"):
        read_lines(tmp_path / "huge.png")


def test_a_header_of_giant_sizes_is_refused_without_decoding(tmp_path: Path) -> None:
    size = struct.pack(">II", 60_000, 60_000) + b"\x08\x02\0\0\0"
    header = struct.pack(">I", 13) + b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    packed = zlib.compress(bytes(10_000_000))
    data = struct.pack(">I", len(packed)) + b"IDAT" + packed + struct.pack(">I", zlib.crc32(b"IDAT" + packed))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + end)
    for what in ("image", "label"):
        assert "pixels, too many to decode at once" in refusal(tmp_path / "a.png", what)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_files_of_every_editor(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("road\r\n\r\n  wässer ☃ \r\nhouse".encode(encoding))
    assert read_lines(tmp_path / "classes.txt") == ["road", "wässer ☃", "house"]


def test_text_in_another_encoding_or_a_pipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("road\nwässer".encode("latin-1"))
    with pytest.raises(DatasetError, match="its byte 6 belongs to neither; save it as UTF-8"):
        read_lines(tmp_path / "classes.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DatasetError, match="regular file"):
        read_lines(tmp_path / "pipe.txt")
