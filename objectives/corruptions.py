"""Image corruptions (ImageNet-C) for robust mIoU.

Kinds and the five severities of each follow Hendrycks and Dietterich (arXiv 1903.12261); Kamann and Rother (arXiv 1908.05005) apply
them to segmentation. Lengths in pixels scale with the image's height relative to 224 pixels, so that a severity is comparable between
input resolutions. The randomness is seeded: all networks are evaluated on the same images.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import signal

from search_spaces._common.names import unknown_name

Pixels = NDArray[np.float32]
SEVERITIES = (1, 2, 3, 4, 5)
_REFERENCE_PX = 224.0


def corrupt(image: NDArray[np.uint8], name: str, severity: int, *, seed: int) -> NDArray[np.uint8]:
    """Return a corrupted copy of an image; its label stays valid, because no pixel is displaced.

    Args:
        image: uint8 (H, W, 3), RGB.
        name: a key of ``CORRUPTIONS``.
        severity: 1 (slight) to 5.
        seed: seed of the corruption; the same image, name, severity and seed give the same result.

    Raises:
        UserError: there is no such corruption.
        ValueError: the severity is not 1 to 5.
    """
    if name not in CORRUPTIONS:
        raise unknown_name("corruption", name, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise ValueError(f"a severity is one of {SEVERITIES}, got {severity}")
    rng = np.random.default_rng([seed, *name.encode()])
    changed = CORRUPTIONS[name](image.astype(np.float32) / 255.0, severity - 1, rng)
    return np.asarray(np.clip(changed, 0.0, 1.0) * 255.0 + 0.5, dtype=np.uint8)


def _gaussian_noise(image: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    spread = (0.08, 0.12, 0.18, 0.26, 0.38)[level]
    return image + rng.normal(0.0, spread, image.shape).astype(np.float32)


def _shot_noise(image: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    photons = (60.0, 25.0, 12.0, 5.0, 3.0)[level]
    return (rng.poisson(image * photons) / photons).astype(np.float32)


def _defocus_blur(image: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    radius = (3.0, 4.0, 6.0, 8.0, 10.0)[level] * image.shape[0] / _REFERENCE_PX
    reach = math.ceil(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    # Pixels on the disc's rim are weighted by the share inside it.
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0.0, 1.0)
    return _filtered(image, disc)


def _motion_blur(image: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    length = (10.0, 15.0, 15.0, 15.0, 20.0)[level] * image.shape[0] / _REFERENCE_PX
    steps = np.linspace(-length / 2, length / 2, 2 * math.ceil(length) + 1)
    angle = rng.uniform(-math.pi / 4, math.pi / 4)
    reach = math.ceil(length / 2)
    line = np.zeros((2 * reach + 1, 2 * reach + 1))
    rows = np.clip(np.rint(reach + steps * math.sin(angle)).astype(int), 0, 2 * reach)
    columns = np.clip(np.rint(reach + steps * math.cos(angle)).astype(int), 0, 2 * reach)
    np.add.at(line, (rows, columns), 1.0)
    return _filtered(image, line)


def _filtered(image: Pixels, kernel: NDArray[np.float64]) -> Pixels:
    reach = kernel.shape[0] // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    weights = (kernel / kernel.sum())[:, :, None].astype(np.float32)
    return np.asarray(signal.fftconvolve(padded, weights, mode="valid", axes=(0, 1)), dtype=np.float32)


def _fog(image: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    """Add a fractal cloud generated from its spectrum, then rescale to the original maximum."""
    amount = (1.5, 2.0, 2.5, 2.5, 3.0)[level]
    decay = (2.0, 2.0, 1.7, 1.5, 1.4)[level]  # amplitude ratio between a scale and half that scale
    height, width, _ = image.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    frequency[0, 0] = 1.0
    spectrum = frequency ** -(math.log2(decay) + 1.0) * np.exp(2j * math.pi * rng.random(frequency.shape))
    spectrum[0, 0] = 0.0
    cloud = np.fft.irfft2(spectrum, (height, width))
    cloud = (cloud - cloud.min()) / max(float(np.ptp(cloud)), 1e-12)
    top = float(image.max())
    return np.asarray((image + amount * cloud[:, :, None]) * top / (top + amount), dtype=np.float32)


def _brightness(image: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    """Raise the value channel of HSV; hue and saturation stay the same."""
    value = image.max(axis=2, keepdims=True)
    raised = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[level], 1.0)
    return np.asarray(np.where(value > 0.0, image * raised / np.maximum(value, 1e-6), raised), dtype=np.float32)


def _contrast(image: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    mean = image.mean(axis=(0, 1), keepdims=True)
    return np.asarray((image - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[level] + mean, dtype=np.float32)


def _jpeg(image: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    buffer = io.BytesIO()
    whole = Image.fromarray(np.asarray(image * 255.0 + 0.5, dtype=np.uint8))
    whole.save(buffer, "JPEG", quality=(25, 18, 15, 10, 7)[level])
    return np.asarray(Image.open(buffer), dtype=np.float32) / 255.0


CORRUPTIONS: dict[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "defocus_blur": _defocus_blur,
    "motion_blur": _motion_blur,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "jpeg": _jpeg,
}
