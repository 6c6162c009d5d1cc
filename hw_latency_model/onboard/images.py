"""Images in, class maps out: decode, resize as in training, upsample logits, write PNG files. Needs numpy and Pillow or OpenCV."""

import importlib
import struct
import zlib
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from hw_latency_model.agent.errors import JobError


def _module(name: str) -> Any:
    """Import a module; None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


PILLOW, ORIENTATION = _module("PIL.Image"), _module("PIL.ImageOps")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def image_files(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> List[Path]:
    """Return the image files of a folder by name, hidden ones excluded.

    Raises:
        JobError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise JobError("there is no folder {}; give the folder of the images".format(folder))
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name[0] != ".")
    if not found:
        raise JobError("{} holds no image ({}); give the folder of the images".format(folder, ", ".join(suffixes)))
    return found


def read_rgb(path: Path) -> Any:
    """Decode an image upright, uint8 (H, W, 3), RGB.

    Raises:
        JobError: the file is no image, or is damaged.
    """
    if PILLOW is not None:
        try:
            with PILLOW.open(str(path)) as opened:
                return np.array(ORIENTATION.exif_transpose(opened).convert("RGB"))
        except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error) as error:
            raise JobError("{} cannot be read as an image ({}); remove or replace it".format(path, error))
    opencv = _module("cv2")
    if opencv is None:
        raise JobError("images need Pillow or OpenCV; install python3-pil or python3-opencv")
    found = opencv.imread(str(path), 1)
    if found is None:
        raise JobError("{} cannot be read as an image; remove or replace it".format(path))
    return np.ascontiguousarray(found[:, :, ::-1])


def network_input(rgb: Any, size_hw: Tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> Any:
    """Resize an image as in training and normalise it: float32 (3, height, width)."""
    small = resize_bicubic(rgb, size_hw)
    unit = small.astype(np.float32) / np.float32(255)
    scaled = (unit - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def resize_bicubic(rgb: Any, size_hw: Tuple[int, int]) -> Any:
    """Resize by bicubic interpolation with antialiasing, uint8; by Pillow where it is installed."""
    if PILLOW is not None:
        resized = PILLOW.fromarray(rgb).resize((size_hw[1], size_hw[0]), PILLOW.BICUBIC, reducing_gap=3.0)
        return np.asarray(resized)
    return resize_without_pillow(rgb, size_hw)


def resize_without_pillow(rgb: Any, size_hw: Tuple[int, int]) -> Any:
    """Resize as `resize_bicubic`, in numpy."""
    if rgb.shape[:2] == tuple(size_hw):
        return rgb
    columns = _cubic_weights(rgb.shape[1], size_hw[1])
    rows = _cubic_weights(rgb.shape[0], size_hw[0])
    planes = []
    for channel in range(3):
        across = _as_bytes(rgb[:, :, channel].astype(np.float32) @ columns.T)
        planes.append(_as_bytes(rows @ across.astype(np.float32)))
    return np.stack(planes, axis=-1)


def _as_bytes(values: Any) -> Any:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _cubic_weights(size: int, wanted: int) -> Any:
    """Weights (wanted, size) of cubic interpolation with a = -0.5, widened for reduction."""
    scale = size / wanted
    spread = max(scale, 1.0)
    centres = (np.arange(wanted) + 0.5) * scale
    distance = np.abs((np.arange(size)[None, :] + 0.5 - centres[:, None]) / spread)
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    weights = np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _linear_weights(size: int, wanted: int) -> Any:
    """Weights (wanted, size) of linear interpolation with half-pixel centres."""
    places = np.maximum((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0.0)
    left = np.minimum(places.astype(np.int64), size - 1)
    right = np.minimum(left + 1, size - 1)
    weights = np.zeros((wanted, size), np.float32)
    rows = np.arange(wanted)
    share = (places - left).astype(np.float32)
    np.add.at(weights, (rows, left), 1.0 - share)
    np.add.at(weights, (rows, right), share)
    return weights


def class_map(logits: Any, size_hw: Tuple[int, int]) -> Any:
    """Upsample logits (classes, h, w) bilinearly and take the class of the largest: uint8 of ``size_hw``."""
    rows = _linear_weights(logits.shape[1], size_hw[0])
    columns = _linear_weights(logits.shape[2], size_hw[1]).T
    best: Any = None
    for index, plane in enumerate(logits):
        full = rows @ plane.astype(np.float32) @ columns
        if best is None:
            best, classes = full, np.zeros(full.shape, np.uint8)
            continue
        above = full > best
        classes[above] = index
        np.maximum(best, full, out=best)
    return classes


def write_png(path: Path, pixels: Any, palette: Optional[Sequence[Sequence[int]]] = None) -> None:
    """Write uint8 pixels, (H, W) or (H, W, 3), as a PNG file by way of a temporary file.

    Args:
        palette: colours of the values of (H, W) pixels; without, they are greyscale.
    """
    kind = 2 if pixels.ndim == 3 else 0 if palette is None else 3
    rows = np.ascontiguousarray(pixels, np.uint8).reshape(pixels.shape[0], -1)
    lines = np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, kind, 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if kind == 3:
        chunks.append((b"PLTE", bytes(bytearray(value for colour in palette or () for value in colour))))
    chunks += [(b"IDAT", zlib.compress(lines, 3)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) & 0xFFFFFFFF)
    temporary = path.with_name(".{}.part".format(path.name))
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise JobError(
            "cannot write {}: {}; free some space or give a folder you may write to".format(path, error.strerror)
        )
    finally:
        if temporary.exists():
            temporary.unlink()
