"""Columns of a kernel table in elements instead of bytes, the input of the Nano's prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import (
    ACTIVATED,
    ADDED,
    AREA,
    DILATION,
    ELEMENT,
    GROUPS,
    HEIGHT,
    INNER,
    LONGEST_STRIDE,
    MACS,
    OUT_PX,
    OUTER,
    READ,
    SIDE,
    WEIGHTS,
    WIDTH,
    WRITTEN,
    KernelTable,
)
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

DENSE = frozenset({"conv", "pointwise", "narrow_conv", "narrow_pointwise", "grouped_conv", "transposed_conv"})


@dataclass(frozen=True)
class KernelColumns:
    """One row per kernel; all columns are (n,).

    Attributes:
        kind: index into ``kinds``.
        kinds: names of kinds, as in ``KernelTable``.
        macs, pixels: multiply-accumulates; output positions per channel.
        inner, outer: input channels of one group, and output channels.
        groups, taps, side, stride, dilation: of a convolution; ``taps`` is kernel height times width, ``side`` the longer one.
        height, width: size of the output map; 0 without one.
        read, written, weights: elements moved.
        added: 1 with a fused addition.
        activated: 1 with a fused sigmoid, SiLU, hard-swish or the like.
        first: 1 for the first kernel of a network.
    """

    kinds: tuple[str, ...]
    kind: Indices
    macs: Array
    pixels: Array
    inner: Array
    outer: Array
    groups: Array
    taps: Array
    side: Array
    stride: Array
    dilation: Array
    height: Array
    width: Array
    read: Array
    written: Array
    weights: Array
    added: Array
    activated: Array
    first: Array

    def __len__(self) -> int:
        return len(self.kind)

    def is_kind(self, *names: str) -> NDArray[np.bool_]:
        """Mask (n,) of kernels of these kinds."""
        wanted = np.array([name in names for name in self.kinds], dtype=np.bool_)
        return np.asarray(wanted[self.kind], dtype=np.bool_) if len(self) else np.zeros(0, dtype=np.bool_)

    def take(self, rows: NDArray[np.bool_] | Indices) -> KernelColumns:
        """Select kernels, in the given order."""
        chosen = {item.name: getattr(self, item.name)[rows] for item in fields(self) if item.name != "kinds"}
        return KernelColumns(kinds=self.kinds, **chosen)


def kernel_columns(kernels: Sequence[KernelSpec] | KernelTable) -> KernelColumns:
    """Build the columns of one network, or of the networks of a table; bytes are converted to elements by each precision."""
    table = kernels if isinstance(kernels, KernelTable) else KernelTable.of(kernels)
    facts = table.facts.T
    groups, element = np.maximum(facts[GROUPS], 1.0), facts[ELEMENT]
    first = np.zeros(len(table))
    first[[start for start in table.starts if start < len(table)]] = 1.0
    return KernelColumns(
        kinds=table.names,
        kind=table.kind,
        macs=facts[MACS],
        pixels=np.maximum(facts[OUT_PX], 1.0),
        inner=np.maximum(facts[INNER] // groups, 1.0),
        outer=np.maximum(facts[OUTER], 1.0),
        groups=groups,
        taps=np.maximum(facts[AREA], 1.0),
        side=np.maximum(facts[SIDE], 1.0),
        stride=np.maximum(facts[LONGEST_STRIDE], 1.0),
        dilation=np.maximum(facts[DILATION], 1.0),
        height=facts[HEIGHT],
        width=facts[WIDTH],
        read=facts[READ] / element,
        written=facts[WRITTEN] / element,
        weights=facts[WEIGHTS] / element,
        added=facts[ADDED],
        activated=facts[ACTIVATED],
        first=first,
    )


def joined_columns(networks: Sequence[Sequence[KernelSpec]]) -> KernelColumns:
    """Build the columns of several networks consecutively."""
    tables = [KernelTable.of(kernels) for kernels in networks if kernels]
    return kernel_columns(KernelTable.join(tables) if tables else KernelTable.of(()))
