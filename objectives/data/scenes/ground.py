"""Ground and water, the lowest layer of a scene."""

from __future__ import annotations

import numpy as np

from objectives.data.scenes.canvas import Canvas, Points, Region, ellipse, strip
from objectives.data.scenes.class_ids import BACKGROUND, WATER
from objectives.data.scenes.textures import (
    Field,
    cells,
    fractal,
    material,
    mix,
    noise,
    relief,
    rotated_grid,
    tint,
    waves,
)


def fields(canvas: Canvas, shape: tuple[int, int]) -> Field:
    """Parcels of crops, some ploughed in rows."""
    rng, unit = canvas.rng, canvas.unit
    along, across = rotated_grid(rng, shape, rng.uniform(0, np.pi))
    size = unit * rng.uniform(14, 30)
    along = along + noise(rng, shape, size) * np.float32(size * 0.08)
    rows, columns = np.floor(along / size).astype(int), np.floor(across / (size * 0.6)).astype(int)
    parcel = (rows * 7 + columns * 13 + (rows * columns) % 5) % 23
    pools = [("green", "green", "grey" if rng.random() < 0.1 else "brown") for _ in range(23)]
    colours: Field = np.stack([material(rng, *pool) for pool in pools])
    rows_px = unit * rng.uniform(2.0, 3.0)
    ploughed = (parcel % 3 == 0).astype(np.float32)
    furrows = np.sin(across * np.float32(2 * np.pi / rows_px)) * ploughed
    light: Field = (0.09 * furrows + 0.08 * fractal(rng, shape, 5 * unit)).astype(np.float32)
    return tint(colours[parcel], light)


def forest(canvas: Canvas, shape: tuple[int, int], *pools: str) -> Field:
    """Tree crowns, lit from the sun's side."""
    rng, unit = canvas.rng, canvas.unit
    distance, _, tone = cells(rng, shape, unit * rng.uniform(2.5, 4.0))
    first, second = material(rng, *(pools or ("green",))), material(rng, *(pools or ("green",)))
    light = relief(np.sqrt(np.maximum(0.0, 0.64 - distance**2)), canvas.sun, 2.2 * unit)
    return tint(mix(first, second, tone), np.asarray(0.45 * light - 0.5 * distance + 0.15, np.float32))


def grass(canvas: Canvas, shape: tuple[int, int]) -> Field:
    rng, unit = canvas.rng, canvas.unit
    first, second = material(rng, "green"), material(rng, "green", "brown")
    share = np.clip(0.5 + fractal(rng, shape, 14 * unit), 0, 1)
    return tint(mix(first, second, share), 0.09 * noise(rng, shape, 1.5 * unit))


def soil(canvas: Canvas, shape: tuple[int, int], *pools: str) -> Field:
    """Bare ground or rock with soft relief."""
    rng, unit = canvas.rng, canvas.unit
    pools = pools or ("brown", "grey", "brown")
    height = fractal(rng, shape, 16 * unit, 4)
    base = mix(material(rng, *pools), material(rng, *pools), np.clip(0.5 + noise(rng, shape, 20 * unit), 0, 1))
    return tint(base, 0.22 * relief(height, canvas.sun, 2.5 * unit) + 0.05 * noise(rng, shape, unit))


def snow(canvas: Canvas, shape: tuple[int, int]) -> Field:
    """Smooth snow with wide soft drifts."""
    rng, unit = canvas.rng, canvas.unit
    drifts = noise(rng, shape, 22 * unit) + 0.3 * waves(rng, shape, 14 * unit, rng.uniform(0, np.pi), 0.8)
    return tint(material(rng, "white"), 0.35 * relief(drifts, canvas.sun, 4.0 * unit))


def plain(canvas: Canvas, shape: tuple[int, int]) -> Field:
    """Yards and built-up ground."""
    rng, unit = canvas.rng, canvas.unit
    _, _, tone = cells(rng, shape, unit * rng.uniform(9, 16), angle=rng.uniform(0, np.pi))
    base = mix(
        material(rng, "grey", "brown", "green"), material(rng, "green", "brown"), (tone > 0.5).astype(np.float32)
    )
    return tint(base, 0.12 * (tone - 0.5) + 0.08 * fractal(rng, shape, 5 * unit))


GROUNDS = {"fields": fields, "forest": forest, "grass": grass, "soil": soil, "snow": snow, "plain": plain}


def lay_ground(canvas: Canvas, *kinds: str) -> None:
    """Cover the canvas with one or two kinds of ground, meeting along an irregular line."""
    rng = canvas.rng
    first = kinds[int(rng.integers(len(kinds)))]
    second = kinds[int(rng.integers(len(kinds)))]
    canvas.rgb[:] = GROUNDS[first](canvas, canvas.shape)
    if rng.random() < 0.7:
        mask = fractal(rng, canvas.shape, 0.6 * max(canvas.shape), 3) > rng.uniform(-0.1, 0.4)
        region = canvas.area(mask)
        if region is not None:
            canvas.paint(region, GROUNDS[second](canvas, region.shape), BACKGROUND)


def trees(canvas: Canvas, count: int, *pools: str) -> None:
    """Single crowns with shadows, on background only."""
    rng, unit = canvas.rng, canvas.unit
    colour = material(rng, *(pools or ("green", "green", "brown", "orange")))
    for _ in range(count):
        centre, size = canvas.random_point(), unit * rng.uniform(2.2, 5.0)
        region = canvas.polygon(ellipse(centre, size, size * rng.uniform(0.8, 1.0), 0.0, 9))
        if region is None or canvas.free_share(region, (BACKGROUND,)) < 0.95:
            continue
        shadow = centre - np.array(canvas.sun) * size * 0.45
        canvas.darken(canvas.polygon(ellipse(shadow, size, size * 0.9, 0.0, 9)), 0.6)
        distance, _, _ = cells(rng, region.shape, unit * 1.4)
        rows, columns = np.indices(region.shape, dtype=np.float32)
        towards = (columns - region.shape[1] / 2) * canvas.sun[0] + (rows - region.shape[0] / 2) * canvas.sun[1]
        light = 0.35 * (0.4 - distance) + 0.35 * (towards / size).astype(np.float32)
        canvas.paint(region, tint(colour * np.float32(rng.uniform(0.8, 1.15)), light), BACKGROUND)


def tracks(canvas: Canvas, count: int) -> None:
    """Pairs of smooth wheel ruts: thin and dark like a crack, but background."""
    rng, unit = canvas.rng, canvas.unit
    for _ in range(count):
        start, end = canvas.random_point(), canvas.random_point()
        middle = (start + end) / 2 + rng.normal(0, 8 * unit, 2)
        t = np.linspace(0, 1, 20)[:, None]
        path = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        for side in (-1.0, 1.0):
            region = canvas.lines([path + side * unit * 0.9], 0.7 * unit)
            if region is not None:
                on_ground = region.mask & (canvas.label[region.window] == BACKGROUND)
                canvas.darken(Region(region.top, region.left, on_ground), 0.78)


def water_texture(canvas: Canvas, shape: tuple[int, int], *pools: str) -> Field:
    """Ripples, slow mottling and glitter on a tint that may be blue, brown, grey or nearly black."""
    rng, unit = canvas.rng, canvas.unit
    base = material(rng, *(pools or ("blue", "blue", "blue", "brown", "grey", "dark")))
    angle = rng.uniform(0, np.pi)
    ripple = waves(rng, shape, unit * rng.uniform(2.0, 3.2), angle, 0.35)
    ripple = ripple * np.clip(0.55 + noise(rng, shape, 10 * unit), 0.1, 1.0)
    rgb = tint(base, 0.20 * ripple + 0.12 * noise(rng, shape, 25 * unit))
    glitter = (noise(rng, shape, 1.2 * unit) + 0.6 * ripple > rng.uniform(0.9, 1.2)) * np.clip(
        0.6 + noise(rng, shape, 40 * unit), 0, 1
    )
    return mix(rgb, np.full(3, 0.95, np.float32), (0.7 * glitter).astype(np.float32))


def flood(canvas: Canvas, share: float) -> None:
    """Standing water over the lowest ``share`` of the ground, with a wet shore and a bright rim."""
    rng = canvas.rng
    height = fractal(rng, canvas.shape, 0.55 * max(canvas.shape), 4)
    along, _ = rotated_grid(rng, canvas.shape, rng.uniform(0, 2 * np.pi))
    height += (along - along.mean()) / np.float32(max(canvas.shape)) * np.float32(rng.uniform(0.2, 1.6))
    level = float(np.quantile(height, share))
    canvas.darken(canvas.area(height < level + 0.05), 0.75)
    region = canvas.area(height < level)
    if region is None:
        return
    rgb = water_texture(canvas, region.shape)
    rim = (height[region.window] > level - 0.02).astype(np.float32) * 0.35
    canvas.paint(region, mix(rgb, np.full(3, 0.85, np.float32), rim), WATER)


def river(canvas: Canvas, path: Points, width: float) -> Region | None:
    """Draw water with uneven banks along a path; return its mask."""
    rng = canvas.rng
    uneven = width * (1 + 0.25 * np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, 7), rng.uniform(-1, 1, 7)))
    bank = canvas.polygon(strip(path, uneven + 3 * canvas.unit))
    if bank is not None:
        canvas.paint(bank, soil(canvas, bank.shape, "brown", "grey"), BACKGROUND, 0.7)
    region = canvas.polygon(strip(path, uneven))
    if region is not None:
        canvas.paint(region, water_texture(canvas, region.shape), WATER)
    return region
