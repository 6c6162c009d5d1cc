"""Colours of class ids in pictures."""

from __future__ import annotations

import colorsys

Palette = tuple[tuple[int, int, int], ...]
"""RGB of each class, 0 to 255."""


def spread_palette(count: int) -> Palette:
    """``count`` RGB colours that are easy to tell apart: hues a golden angle apart, brightness alternating."""
    colours = []
    for index in range(count):
        red, green, blue = colorsys.hsv_to_rgb((index * 0.618034) % 1.0, 0.75, 0.95 if index % 2 else 0.7)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colours)
