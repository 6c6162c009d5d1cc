"""Hazards: flows, ice, lava, fire, cracks. Shape and texture distinguish them more than colour."""

from __future__ import annotations

import numpy as np

from objectives.data.scenes.buildings import rubble
from objectives.data.scenes.canvas import Canvas, Mask, Points, Region, ellipse, strip
from objectives.data.scenes.class_ids import AVALANCHE, CRACK, DEBRIS, FIRE, ICE, LAVA, PYROCLASTIC
from objectives.data.scenes.ground import water_texture
from objectives.data.scenes.textures import (
    Field,
    billows,
    cells,
    fractal,
    material,
    mix,
    noise,
    relief,
    tint,
    waves,
)


def fan(canvas: Canvas, reach: float, spread: float) -> tuple[Mask, float]:
    """A lobed tongue that enters from one side and widens; returns it and the direction it flows in."""
    rng = canvas.rng
    angle = float(rng.uniform(0, 2 * np.pi))
    centre = np.array([canvas.width, canvas.height]) * rng.uniform(0.35, 0.65, 2)
    rows = np.arange(canvas.height, dtype=np.float32)[:, None] - np.float32(centre[1])
    columns = np.arange(canvas.width, dtype=np.float32)[None, :] - np.float32(centre[0])
    size = max(canvas.shape)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) / size
    across = (rows * np.cos(angle) - columns * np.sin(angle)) / size
    across = across + 0.10 * noise(rng, canvas.shape, 0.5 * size)
    lobes = fractal(rng, canvas.shape, 0.22 * size, 3)
    half = spread * (0.55 + 0.8 * np.clip(along + 0.5, 0, 1)) + 0.06 * lobes
    front = reach + 0.10 * lobes - 1.2 * across**2
    return np.asarray((np.abs(across) < half) & (along < front)), angle


def _rim_shadow(canvas: Canvas, mask: Mask, depth: float) -> None:
    """Draw the shadow of a thick flow on the ground beside it."""
    shift = np.round(-np.array(canvas.sun) * depth).astype(int)
    canvas.darken(canvas.area(np.roll(mask, (int(shift[1]), int(shift[0])), axis=(0, 1)) & ~mask), 0.68)


def debris_flow(canvas: Canvas) -> None:
    """Mud and rock: flow lines, and boulders that stand out of it."""
    rng, unit = canvas.rng, canvas.unit
    mask, angle = fan(canvas, rng.uniform(0.05, 0.4), rng.uniform(0.14, 0.26))
    _rim_shadow(canvas, mask, 1.5 * unit)
    region = canvas.area(mask)
    if region is None:
        return
    base = material(rng, "brown", "brown", "grey", "dark")
    streaks = waves(rng, region.shape, unit * rng.uniform(3.5, 5.5), angle, 0.9)
    lumps = relief(fractal(rng, region.shape, 5 * unit), canvas.sun, 1.6 * unit)
    rgb = tint(base, 0.16 * streaks + 0.35 * lumps)
    distance, _, tone = cells(rng, region.shape, 2.6 * unit)
    stones = (distance < 0.42) & (tone > rng.uniform(0.55, 0.85))
    stone_light = relief(np.sqrt(np.maximum(0.0, 0.18 - distance**2)), canvas.sun, 2.0 * unit)
    stone = tint(material(rng, "grey", "brown", "white"), 0.7 * stone_light)
    canvas.paint(region, mix(rgb, stone, stones.astype(np.float32)), DEBRIS)


def debris_field(canvas: Canvas, share: float) -> None:
    """Wreckage strewn over low ground, after a flood or a storm."""
    rng = canvas.rng
    height = fractal(rng, canvas.shape, 0.3 * max(canvas.shape), 3)
    region = canvas.area(height > np.quantile(height, 1 - share))
    if region is not None:
        canvas.paint(region, rubble(canvas, region.shape, material(rng, "brown", "grey")), DEBRIS)


def avalanche(canvas: Canvas) -> None:
    """Blocky snow in a fan: clods with hard shadows, where undisturbed snow is smooth."""
    rng, unit = canvas.rng, canvas.unit
    mask, angle = fan(canvas, rng.uniform(0.1, 0.42), rng.uniform(0.16, 0.30))
    _rim_shadow(canvas, mask, 2.0 * unit)
    region = canvas.area(mask)
    if region is None:
        return
    distance, _, tone = cells(rng, region.shape, unit * rng.uniform(2.4, 3.6), angle=angle, stretch=1.3)
    clods = relief(np.sqrt(np.maximum(0.0, 0.6 - distance**2)) * (0.4 + tone), canvas.sun, 1.8 * unit)
    streaks = waves(rng, region.shape, 7 * unit, angle, 0.6)
    base = mix(material(rng, "white"), material(rng, "white", "grey", "brown"), np.clip(0.3 * streaks, 0, 1))
    canvas.paint(region, np.clip(tint(base * np.float32(0.93), 0.5 * clods + 0.06 * streaks), 0, 1), AVALANCHE)


def ice_jam(canvas: Canvas, bed: Region, extent: float) -> None:
    """Angular plates, flat and pale, pressed together on water; the gaps are dark."""
    rng, unit = canvas.rng, canvas.unit
    _, border, tone = cells(rng, bed.shape, unit * rng.uniform(5.0, 8.0), angle=rng.uniform(0, np.pi), stretch=1.3)
    _, small_border, small_tone = cells(rng, bed.shape, unit * rng.uniform(2.4, 3.2))
    broken = noise(rng, bed.shape, 14 * unit) > 0.25
    border, tone = np.where(broken, small_border, border), np.where(broken, small_tone, tone)
    gap = border < 0.14
    lip = (border < 0.24) & ~gap
    pale = mix(material(rng, "white"), material(rng, "white", "blue", "grey"), (tone > 0.55).astype(np.float32))
    plates = tint(pale, 0.22 * (tone - 0.5) + 0.10 * lip)
    open_water = water_texture(canvas, bed.shape, "blue", "dark", "green")
    jammed = bed.mask & (fractal(rng, bed.shape, 0.4 * max(canvas.shape)) < 2 * extent - 1)
    region = Region(bed.top, bed.left, jammed)
    canvas.paint(region, mix(plates, open_water * np.float32(0.6), gap.astype(np.float32)), ICE)


def lava(canvas: Canvas, flows: int) -> None:
    """Dark crust broken by glowing veins, in branching tongues."""
    rng = canvas.rng
    for _ in range(flows):
        mask, angle = fan(canvas, rng.uniform(0.05, 0.45), rng.uniform(0.05, 0.15))
        glow = canvas.area(mask)
        if glow is None:
            continue
        canvas.paint(glow, _lava_surface(canvas, glow.shape, angle), LAVA)


def _lava_surface(canvas: Canvas, shape: tuple[int, int], angle: float) -> Field:
    rng, unit = canvas.rng, canvas.unit
    _, border, tone = cells(
        rng, shape, unit * rng.uniform(3.0, 4.6), angle=angle, stretch=rng.uniform(1.5, 2.6), warp=0.45
    )
    heat = np.clip(0.30 - border + 0.38 * noise(rng, shape, 9 * unit), 0, 0.6) / 0.6
    crust = tint(material(rng, "dark", "dark", "brown"), 0.4 * (tone - 0.5))
    hot = mix(np.array([0.55, 0.08, 0.02], np.float32), np.array([1.0, 0.62, 0.15], np.float32), np.clip(heat, 0, 1))
    return mix(crust, hot, np.clip(2.5 * heat - 0.35, 0, 1))


def pyroclastic_flow(canvas: Canvas) -> None:
    """Billows of ash like a cauliflower, grey or tan, hugging the ground."""
    rng, unit = canvas.rng, canvas.unit
    mask, _ = fan(canvas, rng.uniform(0.05, 0.42), rng.uniform(0.18, 0.32))
    _rim_shadow(canvas, mask, 4.0 * unit)
    region = canvas.area(mask)
    if region is None:
        return
    height = billows(rng, region.shape, unit * rng.uniform(9, 14), 4)
    light = relief(height, canvas.sun, 3.2 * unit)
    base = material(rng, "grey", "grey", "brown", "white")
    ash = tint(base, 0.35 * light + 0.75 * np.clip(height - 0.45, -0.4, 0.3))
    canvas.paint(region, np.clip(ash, 0, 1), PYROCLASTIC)


def fire(canvas: Canvas, centre: Points, size: float, wind: float) -> None:
    """Flames, bright inside, ragged outside, and the ground scorched around them."""
    rng, unit = canvas.rng, canvas.unit
    for scale in (1.35, 1.6, 1.85, 2.1):
        outline = ellipse(centre, scale * size, 0.85 * scale * size, wind)
        canvas.darken(canvas.polygon(outline + rng.normal(0, 0.06 * size, outline.shape)), 0.82)
    box = canvas.polygon(ellipse(centre, 1.25 * size, 1.25 * size, 0.0, 20))
    if box is None:
        return
    rows, columns = np.indices(box.shape, dtype=np.float32)
    x, y = columns + box.left - np.float32(centre[0]), rows + box.top - np.float32(centre[1])
    along, across = x * np.cos(wind) + y * np.sin(wind), y * np.cos(wind) - x * np.sin(wind)
    tongues = waves(rng, box.shape, unit * rng.uniform(2.5, 3.5), wind, 0.9)
    radius = np.sqrt((along / (0.58 * size)) ** 2 + (across / (0.42 * size)) ** 2)
    heat = 1.0 - radius + 0.30 * tongues * np.clip(radius, 0, 1) + 0.30 * noise(rng, box.shape, 2.5 * unit)
    burning = Region(box.top, box.left, box.mask & (heat > 0.12))
    heat = np.clip(heat, 0, 1)
    outer = mix(
        np.array([0.62, 0.14, 0.03], np.float32), np.array([1.0, 0.55, 0.10], np.float32), np.clip(2.2 * heat, 0, 1)
    )
    rgb = mix(outer, np.array([1.0, 0.95, 0.70], np.float32), np.clip(2.5 * heat - 1.2, 0, 1))
    canvas.paint(burning, rgb, FIRE)


def smoke(canvas: Canvas, source: Points, length: float, wind: float) -> None:
    """Draw a translucent plume; the class ids below stay the same."""
    rng = canvas.rng
    far = source + np.array([np.cos(wind), np.sin(wind)]) * length
    plume = canvas.polygon(strip(np.linspace(source, far, 10), np.linspace(0.12, 0.7, 10) * length))
    if plume is None:
        return
    rows, columns = np.indices(plume.shape, dtype=np.float32)
    x, y = columns + plume.left - np.float32(source[0]), rows + plume.top - np.float32(source[1])
    along = (x * np.cos(wind) + y * np.sin(wind)) / length
    across = np.abs(y * np.cos(wind) - x * np.sin(wind)) / length / (0.06 + 0.29 * np.clip(along, 0, 1))
    puffs = 0.55 + 0.6 * fractal(rng, plume.shape, length * 0.15, 3)
    alpha = np.clip((1.0 - across**2) * (1.0 - 0.8 * along) * puffs, 0, 0.6).astype(np.float32)
    canvas.paint(plume, material(rng, "grey", "white", "dark"), None, alpha)


def crack(canvas: Canvas, start: Points, direction: float, length: float, width: float, branches: int = 2) -> None:
    """A jagged dark gap, tapering, with a lit lip on one side, and branches."""
    rng, unit = canvas.rng, canvas.unit
    steps = max(4, int(length / (3.0 * unit)))
    turns = direction + np.cumsum(rng.normal(0, 0.15, steps)) + rng.normal(0, 0.5, steps)
    moves = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / steps)
    path = start + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
    taper = np.maximum(width * (1 - np.linspace(0, 1, len(path)) ** 2) * rng.uniform(0.7, 1.3, len(path)), 0.35 * width)
    outline = strip(path, taper)
    lip = canvas.polygon(outline - np.array(canvas.sun) * 0.6 * unit)
    if lip is not None:
        canvas.rgb[lip.window] *= np.where(lip.mask, np.float32(1.3), np.float32(1))[..., None]
    region = canvas.polygon(outline)
    if region is not None:
        canvas.paint(region, material(rng, "dark") * np.float32(0.6), CRACK, 0.88)
    for _ in range(branches):
        at = int(rng.integers(1, max(2, len(path) - 2)))
        side = 1 if rng.random() < 0.5 else -1
        crack(
            canvas, path[at], turns[min(at, steps - 1)] + side * rng.uniform(0.5, 1.1), length * 0.45, width * 0.65, 0
        )


def sinkhole(canvas: Canvas, centre: Points, size: float) -> None:
    """Sunken ground: a dark pit with a broken rim and rings of cracks."""
    rng, unit = canvas.rng, canvas.unit
    for scale, shade in ((1.0, 0.8), (0.82, 0.7), (0.6, 0.5)):
        outline = ellipse(centre, size * scale, size * scale * 0.8, 0.3, 18)
        outline += rng.normal(0, 0.05 * size, outline.shape)
        region = canvas.polygon(outline)
        if region is not None:
            rough = 1 + 0.25 * noise(rng, region.shape, 2 * unit)
            below = canvas.rgb[region.window] * np.float32(shade) * rough[..., None]
            canvas.paint(region, below, CRACK)
            rim = canvas.lines([np.concatenate([outline, outline[:1]])], max(1.0, 0.9 * unit))
            canvas.paint(rim, material(rng, "dark") * np.float32(0.7), CRACK, 0.8)
