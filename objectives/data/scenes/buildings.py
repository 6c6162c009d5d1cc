"""Undamaged and damaged buildings of the same colours; outline, roof and rubble distinguish them."""

from __future__ import annotations

import numpy as np

from objectives.data.scenes.canvas import Canvas, Points, Region, ellipse, ragged, rectangle
from objectives.data.scenes.class_ids import BACKGROUND, BUILDING, BUILDING_DAMAGED, DEBRIS, WATER
from objectives.data.scenes.textures import Field, cells, material, noise, relief, tint, waves

_ROOFS = ("grey", "red", "brown", "white", "dark", "blue", "orange")


def rubble(canvas: Canvas, shape: tuple[int, int], base: Field) -> Field:
    """Angular fragments of all brightnesses, each with a lit and a dark side."""
    rng, unit = canvas.rng, canvas.unit
    _, border, tone = cells(rng, shape, unit * rng.uniform(1.6, 2.3), angle=rng.uniform(0, np.pi), stretch=1.5)
    light = relief(tone, canvas.sun, 0.45 * unit)
    return np.clip(tint(base, 0.75 * (tone - 0.5) + 0.4 * light - 0.4 * (border < 0.12)), 0, 1).astype(np.float32)


def rubble_heap(canvas: Canvas, centre: Points, size: float) -> None:
    """A heap of rubble, thinning out at its edge."""
    rng = canvas.rng
    outline = ragged(rng, ellipse(centre, size, size * rng.uniform(0.5, 1.0), rng.uniform(0, np.pi), 9), size * 0.12)
    region = canvas.polygon(outline)
    if region is not None:
        canvas.paint(region, rubble(canvas, region.shape, material(rng, "grey", "brown", "white")), DEBRIS)


def building(canvas: Canvas, centre: Points, length: float, width: float, angle: float, *, damaged: bool) -> bool:
    """Draw a building if its site is free; return True if it was drawn."""
    rng, unit = canvas.rng, canvas.unit
    corners = rectangle(centre, length, width, angle)
    site = canvas.polygon(rectangle(centre, length + 2 * unit, width + 2 * unit, angle))
    if site is None or canvas.free_share(site, (BACKGROUND, WATER)) < 0.97:
        return False
    floors = unit * rng.uniform(1.5, 5.0) * (0.5 if damaged else 1.0)
    class_id = BUILDING_DAMAGED if damaged else BUILDING
    colour = material(rng, *_ROOFS)
    if damaged:
        for _ in range(int(rng.integers(1, 4))):
            side = centre + rng.uniform(-0.55, 0.55, 2) * (length + 2 * unit)
            rubble_heap(canvas, side, unit * rng.uniform(4, 7))
        corners = ragged(rng, corners, 0.22 * width)
    away = -np.array(canvas.sun) * floors * 0.9
    for step in (0.5, 1.0):
        canvas.darken(canvas.polygon(corners + away * step), 0.72)
    lift = np.array(canvas.lean) * floors
    wall = material(rng, "white", "grey", "brown", "red") * np.float32(0.7)
    for share in np.linspace(0, 0.9, max(2, int(np.hypot(*lift)))):
        canvas.paint(canvas.polygon(corners + lift * share), wall * np.float32(0.85 + 0.15 * share), class_id)
    roof = canvas.polygon(corners + lift)
    if roof is None:
        return True
    if damaged:
        _broken_roof(canvas, roof, centre + lift, length, width, angle, colour)
    else:
        _whole_roof(canvas, roof, centre + lift, length, width, angle, colour)
    return True


def _whole_roof(
    canvas: Canvas, roof: Region, centre: Points, length: float, width: float, angle: float, colour: Field
) -> None:
    rng, unit = canvas.rng, canvas.unit
    tiles = 0.05 * waves(rng, roof.shape, 1.6 * unit, angle + np.pi / 2, 0.0)
    canvas.paint(roof, tint(colour, tiles), BUILDING)
    across = np.array([-np.sin(angle), np.cos(angle)])
    along = np.array([np.cos(angle), np.sin(angle)])
    if rng.random() < 0.6:  # gable: one half lit, a ridge between them
        lit = float(np.dot(across, canvas.sun))
        for side in (-1, 1):
            half = canvas.polygon(rectangle(centre + across * side * width / 4, length, width / 2, angle))
            canvas.paint(half, colour * np.float32(1 + 0.28 * lit * side), BUILDING)
        ridge = np.stack([centre - along * length / 2, centre + along * length / 2])
        canvas.paint(canvas.lines([ridge], max(1.0, 0.5 * unit)), np.minimum(colour * 1.35, 1.0), BUILDING)
        return
    parapet = canvas.polygon(rectangle(centre, length - 1.4 * unit, width - 1.4 * unit, angle))
    canvas.paint(parapet, colour * np.float32(0.86), BUILDING)
    for _ in range(int(rng.integers(0, 4))):
        spot = centre + along * rng.uniform(-0.35, 0.35) * length + across * rng.uniform(-0.3, 0.3) * width
        canvas.darken(
            canvas.polygon(rectangle(spot - np.array(canvas.sun) * 0.5 * unit, 1.8 * unit, 1.4 * unit, angle)), 0.6
        )
        canvas.paint(
            canvas.polygon(rectangle(spot, 1.8 * unit, 1.4 * unit, angle)), material(rng, "white", "grey"), BUILDING
        )


def _broken_roof(
    canvas: Canvas, roof: Region, centre: Points, length: float, width: float, angle: float, colour: Field
) -> None:
    rng, unit = canvas.rng, canvas.unit
    canvas.paint(roof, tint(colour, 0.2 * noise(rng, roof.shape, 2 * unit)), BUILDING_DAMAGED)
    _, border, tone = cells(rng, roof.shape, unit * 2.6, angle=angle, stretch=1.6)
    patch = (noise(rng, roof.shape, 4 * unit) > rng.uniform(-0.4, 0.1)) & roof.mask
    torn = np.clip(tint(colour * np.float32(0.8), 0.9 * (tone - 0.5) - 0.5 * (border < 0.12)), 0, 1)
    canvas.paint(Region(roof.top, roof.left, patch), torn, BUILDING_DAMAGED)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    for _ in range(int(rng.integers(1, 4))):  # holes with rafters across
        spot = centre + along * rng.uniform(-0.3, 0.3) * length + across * rng.uniform(-0.25, 0.25) * width
        size = width * rng.uniform(0.3, 0.55)
        hole = canvas.polygon(ragged(rng, rectangle(spot, size * 1.3, size, angle), size * 0.25, 3))
        if hole is None:
            continue
        rafters = waves(rng, hole.shape, 1.7 * unit, angle, 0.1)
        dark = np.array([0.11, 0.10, 0.10], np.float32)
        canvas.paint(hole, tint(dark, np.where(rafters > 0.6, 2.2, 0.0).astype(np.float32)), BUILDING_DAMAGED)


def settlement(canvas: Canvas, count: int, *, damaged_share: float, angle: float | None = None) -> None:
    """Up to ``count`` buildings, roughly in line with each other, where the ground is free."""
    rng, unit = canvas.rng, canvas.unit
    angle = rng.uniform(0, np.pi) if angle is None else angle
    built = 0
    for _ in range(6 * count):
        if built >= count:
            return
        length = unit * rng.uniform(9, 17) * (1.5 if rng.random() < 0.15 else 1.0)
        width = min(length, unit * rng.uniform(8, 11))
        turn = angle + (np.pi / 2 if rng.random() < 0.4 else 0.0) + rng.normal(0, 0.08)
        built += building(canvas, canvas.random_point(-0.03), length, width, turn, damaged=rng.random() < damaged_share)
