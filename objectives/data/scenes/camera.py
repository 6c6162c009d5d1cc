"""The camera: an oblique view, daylight, haze, optics and sensor, different for each image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from objectives.data.scenes.canvas import Canvas
from objectives.data.scenes.textures import Field, noise

UInt8Array = npt.NDArray[np.uint8]


def photograph(canvas: Canvas, size_hw: tuple[int, int]) -> tuple[UInt8Array, UInt8Array]:
    """Render image (h, w, 3) and label (h, w) in perspective: colours are averaged, class ids sampled."""
    rng = canvas.rng
    quad = _view(canvas)
    size = (size_hw[1], size_hw[0])
    double = (2 * size[0], 2 * size[1])
    sheet = Image.fromarray((np.clip(canvas.rgb, 0, 1) * 255).astype(np.uint8))
    seen = sheet.transform(double, Image.Transform.QUAD, quad, Image.Resampling.BILINEAR).resize(
        size, Image.Resampling.BOX
    )
    label = Image.fromarray(canvas.label).transform(size, Image.Transform.QUAD, quad, Image.Resampling.NEAREST)
    rgb = _light(rng, np.asarray(seen, np.float32) / np.float32(255))
    return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8), np.asarray(label)


def _view(canvas: Canvas) -> tuple[float, ...]:
    """Return the corners of the field of view, wider at the far side: upper left, lower left, lower right, upper right."""
    narrow = float(np.clip(canvas.rng.normal(0.10, 0.08), 0.0, 0.25)) * canvas.width
    width, height = float(canvas.width), float(canvas.height)
    return (0.0, 0.0, narrow, height, width - narrow, height, width, 0.0)


def _light(rng: np.random.Generator, rgb: Field) -> Field:
    height, width = rgb.shape[:2]
    warmth = rng.normal(0, 0.07)
    cast = np.array([1 + warmth, 1 + rng.normal(0, 0.025), 1 - warmth], np.float32)
    rgb = np.clip(rgb * cast * np.float32(rng.uniform(0.72, 1.2)), 0, 1) ** np.float32(rng.uniform(0.8, 1.25))
    if rng.random() < 0.4:  # cloud shadows
        cloud = np.clip(1.5 * noise(rng, (height, width), 0.8 * width), 0, 1)
        rgb *= (1 - np.float32(rng.uniform(0.15, 0.4)) * cloud)[..., None]
    rows = np.linspace(1, 0, height, dtype=np.float32)[:, None]
    haze = np.float32(max(0.0, rng.normal(0.08, 0.10))) * (0.4 + 0.6 * rows)
    veil = np.array([0.78, 0.80, 0.84], np.float32) * np.float32(rng.uniform(0.8, 1.1))
    rgb = rgb * (1 - haze[..., None]) + veil * haze[..., None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    vignette = 1 - np.float32(rng.uniform(0, 0.28)) * (columns**2 + (2 * rows - 1) ** 2) / 2
    grain = rng.normal(0, 1, rgb.shape).astype(np.float32) * np.float32(rng.uniform(0.004, 0.02))
    return np.asarray(rgb * vignette[..., None] + grain, np.float32)
