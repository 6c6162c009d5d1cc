"""Decode image and label files; no other module of the project opens them.

Images become uint8 RGB. Their EXIF orientation is applied first. Greyscale values of more than 8 bits are scaled by one factor for the
whole data set, ``255 / white``; 32-bit floating point values and values above ``white`` are refused.
"""

from __future__ import annotations

import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from objectives.data.base import DatasetError, UInt8Array

FULL_RANGE = 65535
"""Value of white in 16-bit images, unless ``data.image_max`` states another."""

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations that exchange height and width
_LOSSY = ("JPEG", "MPO")
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads the values of 2 and 4 bits over 0 to 255
_BAD_EXIF = (OSError, ValueError, SyntaxError, KeyError, TypeError, OverflowError, struct.error)
_MOST_BYTES = 2_000_000_000
_UNDECODABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)

# Pillow warns of images from half its limit on; they are read, and those above the limit are refused.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class ImageHeader:
    """Facts that an image's header states.

    Attributes:
        size_hw: height and width in pixels, after the EXIF orientation was applied.
        stored_hw: height and width of the pixels as stored.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        deep: the file holds more than 8 bits a channel.
    """

    size_hw: tuple[int, int]
    stored_hw: tuple[int, int]
    orientation: int
    deep: bool


@dataclass(frozen=True)
class LabelPixels:
    """Pixels of a label file before they become class ids: values or colours.

    Attributes:
        values: class values or palette indices, integers (H, W); None for a label of colours.
        colours: uint8 (H, W, 3); None for a label of values.
        palette: uint8 (256, 3), colours of palette indices; None for a label without palette.
        grey: uint8 (H, W), brightness as viewers show it, for greyscale labels of up to 8 bits; else None.
    """

    values: npt.NDArray[Any] | None = None
    colours: UInt8Array | None = None
    palette: UInt8Array | None = None
    grey: UInt8Array | None = None


def read_image(path: Path, white: int | None = None) -> UInt8Array:
    """Return an image, uint8 (H, W, 3), RGB, upright.

    Args:
        path: image file.
        white: value of white in images of more than 8 bits; None: 65535.

    Raises:
        DatasetError: the file cannot be decoded, or its pixels cannot be brought to 8 bits by the data set's rule.
    """
    with _opened(path, "image") as opened:
        return _upright(_rgb(opened, path, white), _orientation(opened.image))


def read_header(path: Path, what: str = "image") -> ImageHeader:
    """Return the size and depth that the header of an image or label states, without decoding its pixels.

    Raises:
        DatasetError: as `read_image`.
    """
    with _opened(path, what, load=False) as opened:
        orientation = _orientation(opened.image)
        size_hw = stored_hw = (opened.image.height, opened.image.width)
        if orientation in _TURNED:
            other_hw = (size_hw[1], size_hw[0])
            # Pillow states the size of a TIFF as it is after turning.
            size_hw, stored_hw = (size_hw, other_hw) if opened.image.format == "TIFF" else (other_hw, stored_hw)
        return ImageHeader(size_hw, stored_hw, orientation, opened.deep)


def label_size_hw(path: Path) -> tuple[int, int]:
    """Return a label's height and width, without decoding its pixels; turned as `read_label` turns it.

    Raises:
        DatasetError: as `read_label`.
    """
    return read_header(path, "label").size_hw


def deep_maximum(path: Path) -> int:
    """Return the largest value of an image of more than 8 bits a channel, on the scale 0 to 65535.

    Raises:
        DatasetError: as `read_image`.
    """
    with _opened(path, "image") as opened:
        if opened.one_number:
            return int(_integers(opened.image, path).max())
        return 256 * int(np.asarray(opened.image.convert("RGB")).max())  # Pillow keeps the high byte of colours


def read_label(path: Path) -> LabelPixels:
    """Return a label's values or colours, upright.

    Raises:
        DatasetError: the file cannot be decoded, was compressed with losses, or holds neither values nor colours.
    """
    with _opened(path, "label") as opened:
        pixels = _label_pixels(opened, path)
        orientation = _orientation(opened.image)
    if orientation == 1:
        return pixels
    parts = (pixels.values, pixels.colours, pixels.grey)
    values, colours, grey = (None if part is None else _upright(part, orientation) for part in parts)
    return LabelPixels(values, colours, pixels.palette, grey)


def require_whole(path: Path, what: str) -> None:
    """Decode all pixels of a file.

    Raises:
        DatasetError: it cannot be decoded.
    """
    with _opened(path, what):
        return


def unreadable(path: Path, what: str, error: BaseException) -> DatasetError:
    """Return the sentence for a file that cannot be read or decoded."""
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return DatasetError(
                f"the {what} {path} is a link to {path.readlink()}, which does not exist; restore the link's target."
            )
        return DatasetError(f"the {what} {path} was there when its folder was listed but is missing now; restore it.")
    if isinstance(error, PermissionError):
        return DatasetError(f"the {what} {path} cannot be read: permission denied; give yourself read permission.")
    if isinstance(error, Image.DecompressionBombError):
        return DatasetError(
            f"the {what} {path} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, too many to decode at once; "
            f"cut it, and its {'label' if what == 'image' else 'image'}, into tiles."
        )
    if isinstance(error, MemoryError):
        return DatasetError(f"the {what} {path} does not fit into memory; cut it, and its partner, into tiles.")
    return DatasetError(
        f"every {what} must be a whole PNG, JPEG or TIFF, but {path} cannot be decoded ({_reason(path, error)}); "
        "restore it from its source or remove it together with its partner."
    )


def require_regular(path: Path, what: str) -> None:
    """Refuse pipes, devices and sockets, which a reader may wait for forever, and files that would fill the memory.

    Raises:
        DatasetError: ``path`` is no regular file, is missing, or has more than 2 GB.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise unreadable(path, what, error) from error
    if facts.st_size > _MOST_BYTES:
        raise DatasetError(
            f"every {what} must have {_MOST_BYTES / 1e9:.0f} GB at most, but {path} has {facts.st_size / 1e9:,.0f}: it is damaged, or "
            "was made to fill the memory; restore it from its source."
        )
    if not stat.S_ISREG(facts.st_mode):
        raise DatasetError(
            f"every {what} must be a regular file, but {path} is a folder, pipe or device; remove it from the folder."
        )


def _reason(path: Path, error: BaseException) -> str:
    try:
        if path.stat().st_size == 0:
            return "it is empty"
    except OSError as gone:
        return str(gone.strerror or gone)
    if isinstance(error, UnidentifiedImageError):
        return "its content is no picture"
    text = str(error).replace(repr(str(path)), "the file").replace(str(path), "the file").rstrip(".")
    return text or type(error).__name__


@dataclass(frozen=True)
class _Opened:
    """An open file, with Pillow's name of the pixel layout in the file, such as ``RGB;16B``."""

    image: Image.Image
    layout: str

    @property
    def one_number(self) -> bool:
        """True for greyscale of more than 8 bits."""
        return self.image.mode in ("F", "I") or self.image.mode.startswith("I;16")

    @property
    def deep(self) -> bool:
        """True for more than 8 bits a channel."""
        return self.one_number or ";16" in self.layout


@contextmanager
def _opened(path: Path, what: str, *, load: bool = True) -> Iterator[_Opened]:
    require_regular(path, what)
    try:
        # Given the path, Pillow would map the file and mix up the rows of greyscale TIFFs that EXIF turns by 90 degrees.
        with path.open("rb") as file, Image.open(file) as image:
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a camera's JPEG with a preview
                raise DatasetError(
                    f"every {what} must hold one picture, but {path} holds {getattr(image, 'n_frames', 1)} pages or frames; "
                    "save each as a file of its own."
                )
            layout = _layout(image)
            if load:
                image.load()
            yield _Opened(image, layout)
    except (Image.DecompressionBombError, MemoryError, *_UNDECODABLE) as error:
        raise unreadable(path, what, error) from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, or 1 where there is none that can be read."""
    if image.format == "PNG" and "exif" not in image.info and "XML:com.adobe.xmp" not in image.info:
        return 1  # asking for it would decode the whole file
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _BAD_EXIF:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn stored pixels (H, W) or (H, W, C) as an EXIF orientation says."""
    turn: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
        8: np.rot90,
    }
    return np.ascontiguousarray(turn[orientation](array)) if orientation in turn else array


def _layout(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)  # emptied when the file is decoded
    if not tiles:
        return ""
    arguments = tiles[0][3]
    if isinstance(arguments, str):
        return arguments
    return str(arguments[0]) if isinstance(arguments, tuple) and arguments else ""


def _integers(image: Image.Image, path: Path) -> npt.NDArray[np.int64]:
    if image.mode == "F":
        raise DatasetError(
            f"an image must hold whole numbers, but {path} holds 32-bit floating point values, which have no range that all "
            "images share; save the images with 8 or 16 bits."
        )
    return np.asarray(image).astype(np.int64)


def _rgb(opened: _Opened, path: Path, white: int | None) -> UInt8Array:
    image = opened.image
    if not opened.one_number:
        if opened.deep and white not in (None, FULL_RANGE):
            raise DatasetError(
                f"data.image_max ({white}) can be applied to greyscale images, but {path} holds colours of 16 bits, of which the "
                "8 highest are read; leave data.image_max out, or save the images with 8 bits."
            )
        if image.mode == "La":  # alpha was multiplied in
            image = image.convert("LA")
        return np.asarray(image.convert("RGB"))
    values, top = _integers(image, path), white or FULL_RANGE
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > top:
        rule = f"data.image_max ({white})" if white else f"{FULL_RANGE}, the range of 16 bits"
        raise DatasetError(
            f"values of an image must lie between 0 and {rule}, but {path} holds {low if low < 0 else high}; "
            "set data.image_max to the data set's largest value, or save the images with 8 bits."
        )
    grey = ((values * 255 + top // 2) // top).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _label_pixels(opened: _Opened, path: Path) -> LabelPixels:
    image, layout = opened.image, opened.layout
    if image.format in _LOSSY:
        raise DatasetError(
            f"a label must be stored without losses, but {path} is a JPEG, which blurs class ids; export it again as PNG."
        )
    mode, array = image.mode, np.asarray(image)
    if mode == "1":
        return LabelPixels(array.astype(np.uint8), grey=array.astype(np.uint8) * 255)
    if mode == "L":
        if layout.startswith("L;") and "I" in layout:
            raise DatasetError(
                f"a label must store class ids as they are, but {path} is a TIFF whose values are inverted (white is zero); "
                "export it again as PNG."
            )
        return LabelPixels(array // np.uint8(_GREY_STEPS.get(layout, 1)), grey=array)
    if mode == "I" or mode.startswith("I;16"):
        return LabelPixels(array.astype(np.int64))
    if mode == "P":
        return LabelPixels(array, palette=_palette(image))
    if mode in ("LA", "PA"):
        _require_opaque(array[..., 1], path)
        if mode == "PA":
            return LabelPixels(array[..., 0], palette=_palette(image))
        return LabelPixels(array[..., 0], grey=array[..., 0])
    if mode in ("RGB", "RGBX"):
        return LabelPixels(colours=array[..., :3])
    if mode == "RGBA":
        _require_opaque(array[..., 3], path)
        return LabelPixels(colours=array[..., :3])
    kind = "floating point values" if mode == "F" else f"pixels of mode {mode}"
    raise DatasetError(
        f"a label must hold whole numbers or RGB colours, but {path} holds {kind}; save it as a greyscale or palette PNG."
    )


def _require_opaque(alpha: npt.NDArray[Any], path: Path) -> None:
    if (alpha != 255).any():
        raise DatasetError(
            f"a label must be opaque, but {path} has transparent pixels, whose class is unclear; export it without transparency."
        )


def _palette(image: Image.Image) -> UInt8Array:
    table = np.zeros((256, 3), np.uint8)
    entries = np.array(image.getpalette("RGB"), np.uint8)[: 3 * 256].reshape(-1, 3)
    table[: len(entries)] = entries
    return table
