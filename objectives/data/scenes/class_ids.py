"""Class ids of the 14 LPCVC classes, for drawing."""

from __future__ import annotations

BACKGROUND = 0
AVALANCHE = 1
BUILDING = 2
BUILDING_DAMAGED = 3
CRACK = 4
DEBRIS = 5
FIRE = 6
WATER = 7
ICE = 8
LAVA = 9
PERSON = 10
PYROCLASTIC = 11
ROAD = 12
VEHICLE = 13
