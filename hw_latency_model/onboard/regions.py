"""Removal of small predicted regions, which cost the LPCVC's Dice a whole class each."""

from typing import Any, Dict, List

import numpy as np


def without_small_regions(classes: Any, least_pixels: int) -> Any:
    """Give each 4-connected region of fewer than ``least_pixels`` pixels the class that it touches most.

    Regions are merged from the smallest one up, so that a region grown by its neighbours may become large enough. The last region stays
    as it is.

    Args:
        classes: uint8 (H, W).

    Returns:
        uint8 (H, W); ``classes`` itself where nothing is removed.
    """
    if least_pixels <= 1:
        return classes
    height, width = classes.shape
    flat = classes.ravel()
    begins = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]) | (np.arange(flat.size) % width == 0))
    ends = np.concatenate([begins[1:], [flat.size]])
    regions = _Regions(flat[begins].tolist(), (ends - begins).tolist())
    above, below, contact = _contacts(begins, ends, width, flat.size)
    for run, other, pixels in zip(above, below, contact):
        regions.touch(run, other, pixels)
    regions.merge(least_pixels)
    return np.repeat(np.asarray(regions.result(), np.uint8), ends - begins).reshape(height, width)


def _contacts(begins: Any, ends: Any, width: int, size: int) -> Any:
    """Pairs of touching runs and their common pixels: vertically, and side by side in one row."""
    run_of = np.repeat(np.arange(len(begins)), ends - begins)
    vertical = run_of[: size - width].astype(np.int64) * len(begins) + run_of[width:]
    pairs, counts = np.unique(vertical, return_counts=True)
    side = np.flatnonzero(begins[1:] % width != 0)
    above = np.concatenate([pairs // len(begins), side])
    below = np.concatenate([pairs % len(begins), side + 1])
    return above.tolist(), below.tolist(), np.concatenate([counts, np.ones(len(side), np.int64)]).tolist()


class _Regions(object):
    """Regions as sets of runs; runs of one class that touch are one region."""

    def __init__(self, classes: List[int], pixels: List[int]) -> None:
        self.classes, self.pixels = classes, pixels
        self.parents = list(range(len(classes)))
        self.neighbours: Dict[int, Dict[int, int]] = {}

    def root(self, run: int) -> int:
        while self.parents[run] != run:
            self.parents[run] = self.parents[self.parents[run]]
            run = self.parents[run]
        return run

    def touch(self, one: int, other: int, pixels: int) -> None:
        if self.classes[one] == self.classes[other]:
            self._join(self.root(one), self.root(other))
        else:
            for a, b in ((one, other), (other, one)):
                touching = self.neighbours.setdefault(a, {})
                touching[b] = touching.get(b, 0) + pixels

    def _join(self, kept: int, gone: int) -> None:
        if kept == gone:
            return
        self.parents[gone] = kept
        self.pixels[kept] += self.pixels[gone]

    def merge(self, least_pixels: int) -> None:
        members: Dict[int, List[int]] = {}
        for run in range(len(self.parents)):
            members.setdefault(self.root(run), []).append(run)
        order = sorted((self.pixels[root], root) for root in members if self.pixels[root] < least_pixels)
        for _, region in order:
            root = self.root(region)
            if self.pixels[root] >= least_pixels:
                continue
            touched: Dict[int, int] = {}
            for run in members[root]:
                for other, pixels in self.neighbours.get(run, {}).items():
                    beside = self.root(other)
                    if beside != root:
                        touched[beside] = touched.get(beside, 0) + pixels
            if not touched:
                continue
            # of equal contacts the larger region
            target = max(touched, key=lambda item: (touched[item], self.pixels[item], -item))
            self._join(target, root)
            members[target].extend(members.pop(root))

    def result(self) -> List[int]:
        return [self.classes[self.root(run)] for run in range(len(self.parents))]
