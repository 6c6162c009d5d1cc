"""Drawing surface of a scene: colours and class ids are painted together, so that they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from objectives.data.scenes.textures import Field

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Region:
    """A mask in a window of the canvas; ``top`` and ``left`` place it."""

    top: int
    left: int
    mask: Mask

    @property
    def shape(self) -> tuple[int, int]:
        return self.mask.shape[0], self.mask.shape[1]

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.shape[0]), slice(self.left, self.left + self.shape[1])


class Canvas:
    """Colours (h, w, 3) 0..1 and class ids (h, w).

    Attributes:
        unit: canvas pixels to one drawing unit; a car is about 2 by 4 units, so it follows image size and altitude.
        sun: unit vector (dx, dy) towards the light, in the image plane.
        lean: (dx, dy) by which a point one unit above the ground is displaced: the obliqueness of the view.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int, unit: float) -> None:
        self.rng = rng
        self.height, self.width, self.unit = height, width, unit
        self.rgb: Field = np.zeros((height, width, 3), np.float32)
        self.label: npt.NDArray[np.uint8] = np.zeros((height, width), np.uint8)
        angle = rng.uniform(0, 2 * np.pi)
        self.sun = (float(np.cos(angle)), float(np.sin(angle)))
        self.lean = (float(rng.normal(0, 0.15)), -float(abs(rng.normal(0.25, 0.25))))

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def polygon(self, points: Points) -> Region | None:
        """Return the part of a polygon, (n, 2) of x and y, inside the canvas."""
        window = self._window(points, 0.0)
        if window is None:
            return None
        sheet, left, top = window
        ImageDraw.Draw(sheet).polygon((points - (left, top)).ravel().tolist(), fill=1)
        return Region(top, left, _mask(sheet))

    def lines(self, paths: Sequence[Points], width: float) -> Region | None:
        """Polylines of ``width`` pixels with rounded joints, as one region."""
        window = self._window(np.concatenate(paths), width) if paths else None
        if window is None:
            return None
        sheet, left, top = window
        draw = ImageDraw.Draw(sheet)
        for path in paths:
            draw.line((path - (left, top)).ravel().tolist(), fill=1, width=max(1, round(width)), joint="curve")
        return Region(top, left, _mask(sheet))

    def _window(self, points: Points, margin: float) -> tuple[Image.Image, int, int] | None:
        """Return an empty mask for the points' bounding box inside the canvas, with its left and top."""
        (low_x, low_y), (high_x, high_y) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        left, top = max(0, floor(low_x - margin)), max(0, floor(low_y - margin))
        right, bottom = min(self.width, ceil(high_x + margin) + 1), min(self.height, ceil(high_y + margin) + 1)
        if right <= left or bottom <= top:
            return None
        return Image.new("L", (right - left, bottom - top)), left, top

    def area(self, mask: Mask) -> Region | None:
        """Return a full-size mask cropped to its bounding box."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return None
        top, left = int(rows[0]), int(columns[0])
        return Region(top, left, mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1])

    def paint(self, region: Region | None, rgb: Field, class_id: int | None, alpha: Field | float = 1.0) -> None:
        """Lay ``rgb``, (3,) or (h, w, 3) of the region's shape, over the region; ``class_id`` None keeps the ids."""
        if region is None:
            return
        window = region.window
        below = self.rgb[window]
        if isinstance(alpha, float) and alpha == 1.0:
            np.copyto(below, rgb, where=region.mask[..., None])
        else:
            share = (region.mask * np.asarray(alpha, np.float32))[..., None]
            below += (rgb - below) * share
        if class_id is not None:
            self.label[window][region.mask] = class_id

    def darken(self, region: Region | None, factor: float) -> None:
        """Darken a region without changing its class ids."""
        if region is not None:
            window = self.rgb[region.window]
            np.multiply(window, np.float32(factor), out=window, where=region.mask[..., None])

    def free_share(self, region: Region, allowed: tuple[int, ...]) -> float:
        """Share of the region's pixels whose class id is among ``allowed``."""
        ids = self.label[region.window][region.mask]
        if not ids.size:
            return 0.0
        counts = np.bincount(ids)
        return float(sum(counts[class_id] for class_id in allowed if class_id < len(counts))) / ids.size

    def random_point(self, margin: float = 0.0) -> Points:
        """Return x, y at least ``margin`` (a share of each side) from the border."""
        low, high = margin, 1 - margin
        return np.array([self.rng.uniform(low, high) * self.width, self.rng.uniform(low, high) * self.height])


def _mask(sheet: Image.Image) -> Mask:
    return np.frombuffer(sheet.tobytes(), np.bool_).reshape(sheet.height, sheet.width)


def rectangle(centre: Points, length: float, width: float, angle: float) -> Points:
    """Corners (4, 2) of a rectangle whose length runs along ``angle``."""
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    return np.array(
        [centre - along - across, centre + along - across, centre + along + across, centre - along + across]
    )


def ellipse(centre: Points, length: float, width: float, angle: float, corners: int = 14) -> Points:
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    x, y = np.cos(turn) * length / 2, np.sin(turn) * width / 2
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(centre + np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1))


def ragged(rng: np.random.Generator, points: Points, roughness: float, pieces: int = 4) -> Points:
    """A polygon with each edge broken into ``pieces`` and each corner moved by up to ``roughness`` pixels inwards."""
    following = np.roll(points, -1, axis=0)
    shares = (np.arange(pieces) / pieces)[None, :, None]
    dense = (points[:, None, :] * (1 - shares) + following[:, None, :] * shares).reshape(-1, 2)
    inwards = dense.mean(axis=0) - dense
    inwards /= np.maximum(np.linalg.norm(inwards, axis=1, keepdims=True), 1e-6)
    moved = dense + inwards * rng.uniform(-0.25, 1.0, (len(dense), 1)) * roughness
    return np.asarray(moved + rng.normal(0, roughness / 5, dense.shape))


def curve(rng: np.random.Generator, start: Points, end: Points, bend: float, points: int = 24) -> Points:
    """A smooth path (points, 2) from start to end, swinging aside by up to ``bend`` of its length."""
    direction = end - start
    normal = np.array([-direction[1], direction[0]])
    first = start + direction * 0.33 + normal * rng.uniform(-bend, bend)
    second = start + direction * 0.67 + normal * rng.uniform(-bend, bend)
    t = np.linspace(0, 1, points)[:, None]
    return np.asarray((1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3 * end)


def strip(path: Points, widths: npt.NDArray[np.float64] | float) -> Points:
    """The outline of a path with a width at each of its points."""
    normals = path_normals(path)
    half = np.broadcast_to(np.asarray(widths, float), (len(path),))[:, None] / 2
    return np.concatenate([path + normals * half, (path - normals * half)[::-1]])


def path_normals(path: Points) -> Points:
    tangents = np.gradient(path, axis=0)
    tangents /= np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), 1e-6)
    return np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)
