"""Candidates among which the next one is chosen: a slowly renewed random sample and the neighbours of the front."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import numpy as np

from trial_runner.search.known_cost.encoding import Key, Params, SpaceEncoding

_ATTEMPTS = 3


class CandidatePool:
    """A random sample of a search space, some of it renewed at every use, so that few new costs have to be predicted.

    Args:
        size: number of random candidates.
        renewed: number of random candidates replaced at every use.
    """

    def __init__(self, size: int, renewed: int) -> None:
        self._size, self._renewed = size, renewed
        self._sample: dict[Key, dict[str, Any]] = {}
        self._encoding: SpaceEncoding | None = None

    def sample(self, encoding: SpaceEncoding, tried: Container[Key], rng: np.random.Generator) -> dict[Key, Params]:
        """Return the random candidates that were not tried, full assignments by key; fewer where the space has no more."""
        if encoding != self._encoding:
            self._sample, self._encoding = {}, encoding
        kept = [(key, params) for key, params in self._sample.items() if key not in tried]
        kept = kept[max(0, len(kept) - (self._size - self._renewed)) :]
        self._sample = dict(kept)
        for _ in range(_ATTEMPTS):
            missing = self._size - len(self._sample)
            if missing <= 0:
                break
            for params in encoding.random(rng, missing):
                key = encoding.key(params)
                if key not in tried:
                    self._sample.setdefault(key, params)
        return dict(self._sample)

    def neighbours(
        self,
        encoding: SpaceEncoding,
        members: Iterable[Params],
        tried: Container[Key],
        rng: np.random.Generator,
        most: int,
    ) -> dict[Key, Params]:
        """Return up to ``most`` untried candidates that differ from a member in one parameter."""
        found: dict[Key, Params] = {}
        for member in members:
            for params in encoding.neighbours(member, rng):
                key = encoding.key(params)
                if key not in tried:
                    found.setdefault(key, params)
        if len(found) <= most:
            return found
        keys = list(found)
        chosen = sorted(rng.choice(len(keys), size=most, replace=False).tolist())
        return {keys[index]: found[keys[index]] for index in chosen}
