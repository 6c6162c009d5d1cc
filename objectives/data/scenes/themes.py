"""Kinds of disaster: the ground, hazards and objects of a scene."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from objectives.data.scenes import hazards
from objectives.data.scenes.buildings import rubble_heap, settlement
from objectives.data.scenes.camera import photograph
from objectives.data.scenes.canvas import Canvas, Points, curve
from objectives.data.scenes.class_ids import AVALANCHE, BACKGROUND, DEBRIS, ICE, ROAD, WATER
from objectives.data.scenes.ground import flood, lay_ground, river, tracks, trees
from objectives.data.scenes.roads import bridge, parked, people, railway, road, traffic

UInt8Array = npt.NDArray[np.uint8]
_SUPERSAMPLING = 1.5
_REFERENCE_PX = 96.0
_UNIT_PX = 1.5


def _crossing(canvas: Canvas, bend: float = 0.25) -> Points:
    """A path from one border of the canvas to another, through its middle part."""
    rng = canvas.rng
    angle, size = rng.uniform(0, 2 * np.pi), max(canvas.shape) * 0.75
    middle = canvas.random_point(0.25)
    way = np.array([np.cos(angle), np.sin(angle)]) * size
    return curve(rng, middle - way, middle + way, bend)


def _road_with_traffic(canvas: Canvas, vehicles: tuple[int, int], bend: float = 0.25) -> Points:
    path = _crossing(canvas, bend)
    if canvas.rng.random() < 0.12:
        railway(canvas, path)
        return path
    road(canvas, path)
    traffic(canvas, path, int(canvas.rng.integers(*vehicles)))
    return path


def _cracks(canvas: Canvas, low: int, high: int) -> None:
    rng, unit = canvas.rng, canvas.unit
    for _ in range(int(rng.integers(low, high))):
        length = rng.uniform(0.35, 0.8) * min(canvas.shape)
        start, direction = canvas.random_point(0.15), rng.uniform(0, 2 * np.pi)
        hazards.crack(canvas, start, direction, length, unit * rng.uniform(2.0, 3.6))
    if rng.random() < 0.3:
        hazards.sinkhole(canvas, canvas.random_point(0.2), unit * rng.uniform(10, 20))


def _fires(canvas: Canvas, low: int, high: int, size: tuple[float, float] = (9, 20)) -> None:
    rng, unit = canvas.rng, canvas.unit
    wind = rng.uniform(0, 2 * np.pi)
    places = [canvas.random_point(0.1) for _ in range(int(rng.integers(low, high)))]
    for place in places:
        hazards.fire(canvas, place, unit * rng.uniform(*size), wind + rng.normal(0, 0.2))
    for place in places:
        if rng.random() < 0.7:
            hazards.smoke(canvas, place, rng.uniform(0.3, 0.7) * min(canvas.shape), wind)


def flooded_town(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "grass", "plain", "fields")
    if rng.random() < 0.6:
        _road_with_traffic(canvas, (0, 3))
    flood(canvas, rng.uniform(0.35, 0.65))
    path = _road_with_traffic(canvas, (1, 5))
    settlement(canvas, int(rng.integers(4, 9)), damaged_share=0.25)
    if rng.random() < 0.4:
        hazards.debris_field(canvas, rng.uniform(0.04, 0.12))
    trees(canvas, int(rng.integers(4, 14)))
    people(canvas, int(rng.integers(3, 12)))
    traffic(canvas, path, 1)


def quake(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "plain", "soil", "grass")
    path = _road_with_traffic(canvas, (1, 5), 0.08)
    settlement(canvas, int(rng.integers(7, 13)), damaged_share=rng.uniform(0.45, 0.85))
    for _ in range(int(rng.integers(1, 5))):
        rubble_heap(canvas, canvas.random_point(), canvas.unit * rng.uniform(8, 18))
    _cracks(canvas, 1, 3)
    trees(canvas, int(rng.integers(2, 9)))
    parked(canvas, int(rng.integers(2, 6)))
    people(canvas, int(rng.integers(5, 16)), (BACKGROUND, ROAD, DEBRIS))
    traffic(canvas, path, 1)


def fissures(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "soil", "fields", "grass")
    tracks(canvas, int(rng.integers(1, 4)))
    path = _road_with_traffic(canvas, (0, 3))
    settlement(canvas, int(rng.integers(1, 5)), damaged_share=0.3)
    _cracks(canvas, 3, 6)
    trees(canvas, int(rng.integers(3, 12)))
    people(canvas, int(rng.integers(3, 10)))
    traffic(canvas, path, 2)


def landslide(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "forest", "grass", "soil", "fields")
    _road_with_traffic(canvas, (1, 4))
    settlement(canvas, int(rng.integers(2, 7)), damaged_share=0.3)
    hazards.debris_flow(canvas)
    settlement(canvas, int(rng.integers(1, 4)), damaged_share=0.7)
    if rng.random() < 0.35:
        river(canvas, _crossing(canvas), canvas.unit * rng.uniform(9, 16))
    trees(canvas, int(rng.integers(2, 12)))
    parked(canvas, int(rng.integers(1, 4)), (BACKGROUND, ROAD, DEBRIS))
    people(canvas, int(rng.integers(3, 10)), (BACKGROUND, ROAD, DEBRIS))


def lava_flow(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "soil", "forest", "grass")
    _road_with_traffic(canvas, (1, 4))
    settlement(canvas, int(rng.integers(2, 7)), damaged_share=0.2)
    hazards.lava(canvas, int(rng.integers(1, 4)))
    if rng.random() < 0.5:
        _fires(canvas, 1, 3, (7, 13))
    if rng.random() < 0.4:
        _cracks(canvas, 1, 3)
    trees(canvas, int(rng.integers(2, 12)))


def ash_flow(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "soil", "forest", "fields", "grass")
    _road_with_traffic(canvas, (1, 4))
    settlement(canvas, int(rng.integers(3, 8)), damaged_share=0.3)
    if rng.random() < 0.35:
        hazards.debris_flow(canvas)
    if rng.random() < 0.3:
        hazards.lava(canvas, 1)
    trees(canvas, int(rng.integers(2, 12)))
    hazards.pyroclastic_flow(canvas)


def snow_slide(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "snow", "snow", "soil", "snow")
    _road_with_traffic(canvas, (1, 4))
    settlement(canvas, int(rng.integers(2, 7)), damaged_share=0.3)
    trees(canvas, int(rng.integers(5, 25)), "green", "dark")
    hazards.avalanche(canvas)
    settlement(canvas, int(rng.integers(0, 3)), damaged_share=0.6)
    people(canvas, int(rng.integers(4, 14)), (BACKGROUND, ROAD, AVALANCHE))


def ice_on_river(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "snow", "grass", "plain", "soil")
    _road_with_traffic(canvas, (1, 3))
    path = _crossing(canvas)
    bed = river(canvas, path, canvas.unit * rng.uniform(26, 48))
    if bed is not None:
        hazards.ice_jam(canvas, bed, rng.uniform(0.4, 0.9))
    settlement(canvas, int(rng.integers(2, 6)), damaged_share=0.2)
    if rng.random() < 0.6:
        at = int(rng.integers(8, 16))
        way = path[at + 1] - path[at]
        across = np.array([-way[1], way[0]]) / max(float(np.hypot(*way)), 1e-6) * max(canvas.shape)
        bridge(canvas, path[at] - across, path[at] + across)
        traffic(canvas, np.linspace(path[at] - across, path[at] + across, 12), 2)
    trees(canvas, int(rng.integers(2, 12)), "green", "dark", "brown")
    people(canvas, int(rng.integers(2, 8)), (BACKGROUND, ROAD, ICE))


def wildfire(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "forest", "forest", "grass", "fields")
    path = _road_with_traffic(canvas, (2, 5))
    settlement(canvas, int(rng.integers(2, 7)), damaged_share=0.4)
    trees(canvas, int(rng.integers(3, 14)), "green", "orange", "brown")
    people(canvas, int(rng.integers(2, 8)))
    _fires(canvas, 3, 8, (10, 26))
    traffic(canvas, path, 1)


def storm_coast(canvas: Canvas) -> None:
    rng = canvas.rng
    lay_ground(canvas, "soil", "grass", "plain")
    if rng.random() < 0.6:
        hazards.debris_field(canvas, rng.uniform(0.08, 0.2))
    flood(canvas, rng.uniform(0.25, 0.5))
    _road_with_traffic(canvas, (1, 4))
    settlement(canvas, int(rng.integers(4, 10)), damaged_share=0.6)
    if rng.random() < 0.3:
        _fires(canvas, 1, 3, (7, 13))
    trees(canvas, int(rng.integers(1, 8)))
    parked(canvas, int(rng.integers(1, 5)), (BACKGROUND, ROAD, WATER))
    people(canvas, int(rng.integers(3, 12)))


THEMES: dict[str, Callable[[Canvas], None]] = {
    "flooded_town": flooded_town,
    "quake": quake,
    "fissures": fissures,
    "landslide": landslide,
    "lava_flow": lava_flow,
    "ash_flow": ash_flow,
    "snow_slide": snow_slide,
    "ice_on_river": ice_on_river,
    "wildfire": wildfire,
    "storm_coast": storm_coast,
}


def render_scene(rng: np.random.Generator, theme: str, height_px: int, width_px: int) -> tuple[UInt8Array, UInt8Array]:
    """Render a scene of a theme: image (h, w, 3) and label (h, w).

    Objects keep their share of the picture at any size: the shorter side is always about as many metres.
    """
    height, width = round(height_px * _SUPERSAMPLING), round(width_px * _SUPERSAMPLING)
    altitude = float(np.exp(rng.normal(0, 0.14)))
    unit = _SUPERSAMPLING * _UNIT_PX * min(height_px, width_px) / _REFERENCE_PX / altitude
    canvas = Canvas(rng, height, width, unit)
    THEMES[theme](canvas)
    return photograph(canvas, (height_px, width_px))
