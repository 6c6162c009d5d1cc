"""Roads, railways and bridges, with the vehicles and people on them."""

from __future__ import annotations

import numpy as np

from objectives.data.scenes.canvas import Canvas, Points, ellipse, path_normals, rectangle, strip
from objectives.data.scenes.class_ids import BACKGROUND, PERSON, ROAD, VEHICLE
from objectives.data.scenes.textures import Field, material, noise, tint

_WHITE = np.array([0.88, 0.88, 0.84], np.float32)
_YELLOW = np.array([0.85, 0.72, 0.30], np.float32)
_GLASS = np.array([0.10, 0.12, 0.15], np.float32)


def road(canvas: Canvas, path: Points, *, width: float | None = None, pools: tuple[str, ...] = ()) -> None:
    """A carriageway with verges and, when paved, a broken centre line and edge lines."""
    rng, unit = canvas.rng, canvas.unit
    width = unit * rng.uniform(6.5, 9.5) if width is None else width
    paved = rng.random() < 0.8
    surface = material(rng, *(pools or (("grey", "grey", "dark") if paved else ("brown", "grey"))))
    verge = canvas.polygon(strip(path, width * 1.35))
    if verge is not None:
        soft = material(rng, "green", "brown", "grey")
        canvas.paint(verge, soft, None, 0.45)
    region = canvas.polygon(strip(path, width))
    if region is None:
        return
    rgb = tint(surface, 0.06 * noise(rng, region.shape, 3 * unit) + 0.05 * noise(rng, region.shape, unit))
    canvas.paint(region, rgb, ROAD)
    if paved:
        _lane_marks(canvas, path, width)
    else:
        rut = 0.22 * width * path_normals(path)
        canvas.paint(canvas.lines([path - rut, path + rut], unit), surface * 0.8, None)


def _lane_marks(canvas: Canvas, path: Points, width: float) -> None:
    rng, unit = canvas.rng, canvas.unit
    thin = max(1.0, 0.5 * unit)
    paint = _YELLOW if rng.random() < 0.3 else _WHITE
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    dash = 3.2 * unit
    starts = np.arange(0.0, lengths[-1], 2 * dash)
    at = np.stack([starts, starts + dash / 2, np.minimum(starts + dash, lengths[-1])])
    x, y = (np.interp(at, lengths, path[:, axis]) for axis in (0, 1))
    canvas.paint(canvas.lines(list(np.stack([x.T, y.T], axis=2)), thin), paint, None, 0.9)
    edge = 0.44 * width * path_normals(path)
    canvas.paint(canvas.lines([path - edge, path + edge], thin), _WHITE, None, 0.55)


def railway(canvas: Canvas, path: Points) -> None:
    """Ballast, sleepers and two rails."""
    rng, unit = canvas.rng, canvas.unit
    width = 5.5 * unit
    region = canvas.polygon(strip(path, width))
    if region is None:
        return
    canvas.paint(region, tint(material(rng, "brown", "grey"), 0.14 * noise(rng, region.shape, 0.8 * unit)), ROAD)
    normals = path_normals(path)
    sleeper = material(rng, "dark", "brown")
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.arange(0.0, lengths[-1], 2.2 * unit)
    left, right = path - normals * 0.36 * width, path + normals * 0.36 * width
    ends = [np.stack([np.interp(at, lengths, side[:, axis]) for axis in (0, 1)], axis=1) for side in (left, right)]
    canvas.paint(canvas.lines(list(np.stack(ends, axis=1)), unit), sleeper, None)
    rails = [path - normals * 0.2 * width, path + normals * 0.2 * width]
    canvas.paint(canvas.lines(rails, max(1.0, 0.5 * unit)), _WHITE * 0.8, None)


def bridge(canvas: Canvas, start: Points, end: Points) -> None:
    """A straight road on a deck with parapets and a shadow beside it."""
    unit = canvas.unit
    path = np.linspace(start, end, 8)
    width = unit * canvas.rng.uniform(7.5, 10)
    offset = -np.array(canvas.sun) * 3.0 * unit
    canvas.darken(canvas.polygon(strip(path + offset, width)), 0.55)
    road(canvas, path, width=width, pools=("grey", "white"))
    edge = 0.5 * width * path_normals(path)
    parapets = canvas.lines([path - edge, path + edge], max(1.0, 0.8 * unit))
    canvas.paint(parapets, material(canvas.rng, "white", "grey"), ROAD)


def vehicle(canvas: Canvas, centre: Points, angle: float) -> None:
    """A car, van or lorry of any colour: shadow, body, windscreens, roof."""
    rng, unit = canvas.rng, canvas.unit
    lorry = rng.random() < 0.25
    length, width = unit * (rng.uniform(7, 9) if lorry else rng.uniform(4.4, 5.4)), unit * (2.7 if lorry else 2.3)
    body = canvas.polygon(rectangle(centre, length, width, angle))
    if body is None:
        return
    shadow = centre - np.array(canvas.sun) * unit * (1.3 if lorry else 0.8)
    canvas.darken(canvas.polygon(rectangle(shadow, length, width, angle)), 0.45)
    paint = material(rng, "white", "dark", "grey", "vivid", "vivid", "blue", "red")
    canvas.paint(body, paint, VEHICLE)
    along = np.array([np.cos(angle), np.sin(angle)])
    if lorry:
        cab = centre + along * length * 0.38
        canvas.paint(
            canvas.polygon(rectangle(cab, length * 0.2, width, angle)), material(rng, "vivid", "white"), VEHICLE
        )
        canvas.paint(
            canvas.polygon(rectangle(centre + along * length * 0.27, unit * 0.5, width, angle)), _GLASS, VEHICLE
        )
        return
    for share, size in ((0.16, 0.16), (-0.3, 0.13)):
        glass = rectangle(centre + along * length * share, length * size, width * 0.8, angle)
        canvas.paint(canvas.polygon(glass), _GLASS, VEHICLE)
    roof = canvas.polygon(rectangle(centre - along * length * 0.07, length * 0.3, width * 0.75, angle))
    canvas.paint(roof, np.minimum(paint * 1.15, 1.0), VEHICLE)


def traffic(canvas: Canvas, path: Points, count: int) -> None:
    """Vehicles on a road, mostly in lane and in its direction."""
    rng = canvas.rng
    normals, tangents = path_normals(path), np.gradient(path, axis=0)
    for _ in range(count):
        at = int(rng.integers(1, len(path) - 1))
        lane = canvas.unit * 2.0 * (1 if rng.random() < 0.5 else -1)
        angle = float(np.arctan2(tangents[at, 1], tangents[at, 0])) + rng.normal(0, 0.06 if rng.random() < 0.8 else 0.6)
        vehicle(canvas, path[at] + normals[at] * lane, angle)


def parked(canvas: Canvas, count: int, allowed: tuple[int, ...] = (BACKGROUND, ROAD)) -> None:
    """Vehicles anywhere on the allowed classes, in short rows."""
    rng, unit = canvas.rng, canvas.unit
    left = count
    while left > 0:
        centre, angle = canvas.random_point(0.05), rng.uniform(0, np.pi)
        row = min(left, int(rng.integers(1, 4)))
        left -= row
        for place in range(row):
            spot = centre + np.array([-np.sin(angle), np.cos(angle)]) * place * 3.4 * unit
            region = canvas.polygon(rectangle(spot, 5 * unit, 2.6 * unit, angle))
            if region is not None and canvas.free_share(region, allowed) > 0.95:
                vehicle(canvas, spot, angle + rng.normal(0, 0.05))


def people(canvas: Canvas, count: int, allowed: tuple[int, ...] = (BACKGROUND, ROAD)) -> None:
    """Small figures in groups: a head on shoulders, and a shadow longer than the figure."""
    rng, unit = canvas.rng, canvas.unit
    left = count
    while left > 0:
        group = min(left, int(rng.integers(1, 6)))
        left -= group
        heart = canvas.random_point(0.05)
        for _ in range(group):
            _person(canvas, heart + rng.normal(0, 3.5 * unit, 2), allowed)


def _person(canvas: Canvas, centre: Points, allowed: tuple[int, ...]) -> None:
    rng, unit = canvas.rng, canvas.unit
    size = max(1.9 * unit, 3.2)
    region = canvas.polygon(ellipse(centre, size, size * 0.62, rng.uniform(0, np.pi), 8))
    if region is None or canvas.free_share(region, allowed) < 0.9:
        return
    away = -np.array(canvas.sun)
    canvas.darken(canvas.lines([np.stack([centre, centre + away * size * 1.6])], size * 0.4), 0.45)
    clothes: Field = material(rng, "vivid", "vivid", "white", "dark", "blue", "red")
    canvas.paint(region, clothes, PERSON)
    head = np.array([0.24, 0.17, 0.13], np.float32) if rng.random() < 0.7 else np.array([0.75, 0.58, 0.45], np.float32)
    canvas.paint(canvas.polygon(ellipse(centre, size * 0.42, size * 0.42, 0.0, 8)), head, PERSON)
