"""Learned factor on a physical prior's kernel times: boosted trees on shape and utilisation, faded out far from the learned kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.model.nano_columns import KernelColumns
from hw_latency_model.model.trees import BoostedTrees

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

STEPS_PER_OCTAVE = 2
"""Resolution of the learned shapes."""
FULL_STEPS = 1.0
"""Distance from a learned shape, in steps, up to which the factor is applied in full; beyond it fades within a step."""
_APART = 1000.0
"""Distance between kernels of two classes, in steps: too far for any factor."""


@dataclass(frozen=True)
class KernelCorrection:
    """Factor on the prior's time of each kernel.

    Attributes:
        trees: logarithm of a kernel's time over the prior's, from ``kernel_features``.
        cells: (c, 4) learned shapes: class, then output positions, input and output channels in half octaves.
    """

    trees: BoostedTrees
    cells: Array

    def log_factor(self, columns: KernelColumns, klass: Indices, prior_ms: Array) -> Array:
        """Compute the logarithm (n,) of the factor on each kernel's prior time."""
        learned = self.trees.predict(kernel_features(columns, klass, prior_ms))
        return np.asarray(learned * self.known(columns, klass), dtype=np.float64)

    def known(self, columns: KernelColumns, klass: Indices) -> Array:
        """Compute how well measured networks cover each kernel's shape, (n,): 1 for a learned shape, 0 for an unlike one."""
        distance = np.asarray(self._tree.query(_spread(kernel_cells(columns, klass)))[0], dtype=np.float64)
        return np.asarray(np.exp(-0.5 * np.maximum(distance - FULL_STEPS, 0.0) ** 2), dtype=np.float64)

    @cached_property
    def _tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        return cKDTree(_spread(self.cells))

    def to_dict(self) -> dict[str, Any]:
        return {"trees": self.trees.to_dict(), "cells": self.cells.astype(int).tolist()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> KernelCorrection:
        """Inverse of ``to_dict``. Raises KeyError/TypeError/ValueError on a damaged value."""
        return cls(BoostedTrees.from_dict(value["trees"]), np.array(value["cells"], dtype=np.float64).reshape(-1, 4))


def kernel_cells(columns: KernelColumns, klass: Indices) -> Array:
    """Compute the class and shape of each kernel, (n, 4), in steps of half an octave, unrounded."""
    sizes = [STEPS_PER_OCTAVE * np.log2(item) for item in (columns.pixels, columns.inner, columns.outer)]
    return np.column_stack([klass.astype(np.float64), *sizes])


def _spread(cells: Array) -> Array:
    return np.asarray(cells * np.array([_APART, 1.0, 1.0, 1.0]), dtype=np.float64)


def kernel_features(columns: KernelColumns, klass: Indices, prior_ms: Array) -> Array:
    """Compute the trees' inputs (n, 13): shape, its fit to tiles and vectors, and the prior's time."""
    height = columns.height
    return np.stack(
        [
            klass.astype(np.float64),
            np.log2(columns.pixels),
            height,
            columns.side,
            columns.stride,
            np.log2(columns.inner),
            np.log2(columns.outer),
            height % 2,
            height % 4,
            height % 8,
            columns.outer % 64,
            np.log2(np.maximum(prior_ms, 1e-6)),
            (columns.pixels % 128) / 128,
        ],
        axis=1,
    )
