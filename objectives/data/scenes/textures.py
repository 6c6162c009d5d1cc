"""Noise, cells and shading: the height fields that surfaces are made from. All are float32 (height, width)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.float32]
Colour = tuple[float, float, float]

# Shared between classes, so that shape, texture and context identify a class rather than its colour.
_POOLS: dict[str, tuple[Colour, ...]] = {
    "grey": ((0.30, 0.30, 0.31), (0.45, 0.45, 0.45), (0.58, 0.57, 0.55), (0.66, 0.66, 0.68)),
    "dark": ((0.14, 0.13, 0.13), (0.20, 0.19, 0.20), (0.24, 0.22, 0.19)),
    "brown": ((0.42, 0.31, 0.21), (0.52, 0.41, 0.29), (0.36, 0.29, 0.23), (0.60, 0.49, 0.36)),
    "white": ((0.86, 0.87, 0.89), (0.80, 0.81, 0.83), (0.90, 0.89, 0.86), (0.75, 0.78, 0.82)),
    "green": ((0.25, 0.36, 0.17), (0.33, 0.43, 0.21), (0.20, 0.29, 0.17), (0.42, 0.48, 0.26)),
    "blue": ((0.25, 0.36, 0.48), (0.33, 0.44, 0.50), (0.20, 0.30, 0.36), (0.42, 0.50, 0.55)),
    "red": ((0.62, 0.28, 0.20), (0.55, 0.22, 0.17), (0.70, 0.40, 0.28), (0.45, 0.20, 0.18)),
    "orange": ((0.85, 0.45, 0.12), (0.92, 0.60, 0.20), (0.75, 0.36, 0.12), (0.95, 0.76, 0.30)),
    "vivid": ((0.80, 0.12, 0.12), (0.10, 0.25, 0.65), (0.90, 0.80, 0.15), (0.10, 0.50, 0.30), (0.90, 0.45, 0.10)),
}


def material(rng: np.random.Generator, *pools: str) -> Field:
    """A colour, float32 (3,), from one of the named pools, jittered."""
    pool = _POOLS[pools[int(rng.integers(len(pools)))]]
    colour = np.array(pool[int(rng.integers(len(pool)))], np.float32)
    return np.clip(colour * rng.uniform(0.85, 1.15) + rng.normal(0, 0.02, 3), 0.02, 0.98).astype(np.float32)


def noise(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Field:
    """Smooth noise of zero mean, roughly -1..1, whose bumps are about ``cell_px`` wide."""
    height, width = shape
    rows, columns = (max(2, round(size / max(cell_px, 1.0)) + 2) for size in shape)
    grid = rng.uniform(-1.0, 1.0, (rows, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def billows(rng: np.random.Generator, shape: tuple[int, int], cell_px: float, octaves: int = 3) -> Field:
    """Round puffs with sharp creases between them, 0 in the creases."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        total += np.abs(noise(rng, shape, cell_px / 2**octave)) * np.float32(0.5**octave)
    return total


def fractal(rng: np.random.Generator, shape: tuple[int, int], cell_px: float, octaves: int = 3) -> Field:
    """Octaves of noise, each half as wide and half as strong as the one before."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        total += noise(rng, shape, cell_px / 2**octave) * np.float32(0.5**octave)
    return total


def rotated_grid(rng: np.random.Generator, shape: tuple[int, int], angle: float) -> tuple[Field, Field]:
    """Coordinates in pixels along ``angle`` and across it, with a random origin."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    origin = rng.uniform(0, 1000, 2).astype(np.float32)
    return columns * cosine + rows * sine + origin[0], rows * cosine - columns * sine + origin[1]


def waves(rng: np.random.Generator, shape: tuple[int, int], length_px: float, angle: float, bend: float) -> Field:
    """Parallel waves, -1..1, bent by noise; ``bend`` in wave lengths."""
    _, across = rotated_grid(rng, shape, angle)
    phase = across / np.float32(length_px) + np.float32(bend) * noise(rng, shape, 4 * length_px)
    return np.asarray(np.sin(np.float32(2 * np.pi) * phase), np.float32)


def cells(
    rng: np.random.Generator,
    shape: tuple[int, int],
    size_px: float,
    *,
    angle: float = 0.0,
    stretch: float = 1.0,
    warp: float = 0.0,
) -> tuple[Field, Field, Field]:
    """Irregular polygons about ``size_px`` wide, ``stretch`` times longer along ``angle``; ``warp`` bends borders.

    Returns:
        distance to the own centre (0 there, about 0.7 at corners), distance to the border (0 there), and a random
        number 0..1 for each polygon.
    """
    along, across = rotated_grid(rng, shape, angle)
    along, across = along / np.float32(size_px * stretch), across / np.float32(size_px)
    if warp:
        along += np.float32(warp) * fractal(rng, shape, 1.6 * size_px, 2)
        across += np.float32(warp) * fractal(rng, shape, 1.6 * size_px, 2)
    along_cell, across_cell = np.floor(along), np.floor(across)
    along -= along_cell
    across -= across_cell
    period = 64  # period of the pattern in cells
    along_index, across_index = along_cell.astype(np.int32) + period, across_cell.astype(np.int32) + period
    centre_along, centre_across = rng.uniform(0.1, 0.9, (2, period * period)).astype(np.float32)
    nearest, second = np.full(shape, 9.0, np.float32), np.full(shape, 9.0, np.float32)
    owner = np.zeros(shape, np.int32)
    for step_along in (-1, 0, 1):
        row = ((along_index + step_along) % period) * period
        for step_across in (-1, 0, 1):
            index = row + (across_index + step_across) % period
            from_along = centre_along.take(index)
            from_along -= along - np.float32(step_along)
            square = centre_across.take(index)
            square -= across - np.float32(step_across)
            square *= square
            from_along *= from_along
            square += from_along
            np.minimum(second, np.maximum(nearest, square), out=second)
            np.copyto(owner, index, where=square < nearest)
            np.minimum(nearest, square, out=nearest)
    first = np.sqrt(nearest)
    tones = rng.uniform(0, 1, period * period).astype(np.float32)
    return first, np.sqrt(second) - first, tones.take(owner)


def relief(height: Field, sun: tuple[float, float], depth_px: float) -> Field:
    """Light on a height field from the direction ``sun`` (dx, dy): 0 on the flat, positive towards the light."""
    if min(height.shape) < 2:
        return np.zeros_like(height)
    down, right = np.gradient(height)
    slope = (right * np.float32(sun[0]) + down * np.float32(sun[1])) * np.float32(-depth_px)
    return np.asarray(np.clip(slope, -1.0, 1.0), np.float32)


def tint(base: Field, light: Field) -> Field:
    """Return a colour, (3,) or (h, w, 3), scaled by a field (h, w): rgb (h, w, 3)."""
    return np.asarray(base * (1.0 + light[..., None]), dtype=np.float32)


def mix(first: Field, second: Field, share: Field) -> Field:
    """``share`` (h, w), 0..1, of the second colour over the first: rgb (h, w, 3)."""
    rgb = (second - first) * share[..., None]
    rgb += first
    return np.asarray(rgb, np.float32)
