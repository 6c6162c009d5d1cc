"""Kernels as arrays, the input of all priors and corrections, computed once per network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.kinds import class_of
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_TRANSCENDENTAL = frozenset({"hard_swish", "silu", "sigmoid", "tanh", "hard_sigmoid", "gelu"})
MACS, READ, WRITTEN, WEIGHTS, INNER, OUTER, GROUPS, LAUNCHES = range(8)
DENSE, DEPTHWISE, MEMORY_BOUND, POINTWISE = range(8, 12)
_SHAPES = 12
AREA, _, _, OUT_PX, WIDTH, ADDED, ACTIVATED = range(12, 19)
INSIDE = 20
SIDE, LONGEST_STRIDE, DILATION, HEIGHT, ELEMENT = range(21, 26)
_FACTS = 26
BLOCK = 16
ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class KernelTable:
    """Kernels of one or more networks, one after the other.

    Attributes:
        names: kinds of kernel; in a joined table repeated for each of its networks.
        kind, before, after: (n,) index into ``names`` of each kernel's kind, and of the kinds of the preceding and following
            kernel in its network; ``""`` at the ends.
        facts: (n, 26) numbers of each kernel: MACs, bytes read, bytes written, bytes of weights, input channels, output
            channels, groups, launches (0 for a view), flags for dense, depthwise, memory-bound, pointwise, then its shape,
            the share of its taps inside the map under dilation, the longest side, stride and dilation, the height of the
            output map, and the bytes of an element.
        starts: index of each network's first kernel.
        networks: kernels of each network.
        parts: tables it was joined from; none for the table of one network.
    """

    names: tuple[str, ...]
    kind: Indices
    before: Indices
    after: Indices
    facts: Array
    starts: tuple[int, ...]
    networks: tuple[tuple[KernelSpec, ...], ...]
    parts: tuple[KernelTable, ...] = ()

    @classmethod
    def of(cls, kernels: Sequence[KernelSpec]) -> KernelTable:
        """Create the table of one network."""
        names = ("", *dict.fromkeys(kernel.kind for kernel in kernels))
        place = {name: index for index, name in enumerate(names)}
        kind = np.array([0, *(place[kernel.kind] for kernel in kernels), 0], dtype=np.intp)
        facts = np.asfortranarray(
            np.array([_facts(kernel) for kernel in kernels], dtype=np.float64).reshape(-1, _FACTS)
        )
        return cls(names, kind[1:-1], kind[:-2], kind[2:], facts, (0,), (tuple(kernels),))

    @classmethod
    def join(cls, tables: Sequence[KernelTable]) -> KernelTable:
        """Join the tables of networks, at least one, in order; neighbours do not cross networks."""
        if len(tables) == 1:
            return tables[0]
        sizes = [len(table) for table in tables]
        begin = np.cumsum([0, *sizes[:-1]]).tolist()
        first_name = np.repeat(np.cumsum([0, *(len(table.names) for table in tables[:-1])]), sizes)
        kind, before, after = (
            np.concatenate([getattr(table, column) for table in tables]) + first_name
            for column in ("kind", "before", "after")
        )
        return cls(
            tuple(name for table in tables for name in table.names),
            kind,
            before,
            after,
            np.concatenate([table.facts for table in tables]),
            tuple(count + start for count, table in zip(begin, tables, strict=True) for start in table.starts),
            tuple(kernels for table in tables for kernels in table.networks),
            tuple(tables),
        )

    def __len__(self) -> int:
        """Number of kernels."""
        return len(self.kind)

    @property
    def kernels(self) -> tuple[KernelSpec, ...]:
        """Kernels in order."""
        return self.networks[0] if len(self.networks) == 1 else tuple(chain.from_iterable(self.networks))

    def once(self, name: str, compute: Callable[[KernelTable], Array]) -> Array:
        """Compute (n, ...) values of the kernels, cached by ``name`` for each network."""
        if name not in self._kept:
            parts = [part.once(name, compute) for part in self.parts]
            self._kept[name] = np.concatenate(parts) if parts else np.asfortranarray(compute(self))
        return self._kept[name]

    @cached_property
    def _kept(self) -> dict[str, Array]:
        return {}

    def by_name(self, value_of: Callable[[str], float], which: Indices) -> Array:
        """Map names to values, (n,); ``which`` is ``kind``, ``before`` or ``after``."""
        return np.array([value_of(name) for name in self.names], dtype=np.float64)[which]

    def sums(self, values: Array) -> Array:
        """Sum ``values`` (n, ...) over the kernels of each network, (networks, ...)."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=0), dtype=np.float64)


def _facts(kernel: KernelSpec) -> tuple[float, ...]:
    kind, fused = kernel.kind, kernel.fused
    group = class_of(kind)
    return (
        kernel.macs,
        kernel.input_bytes,
        kernel.output_bytes,
        kernel.weight_bytes,
        kernel.in_channels,
        kernel.out_channels,
        kernel.groups,
        kind != "view",
        group == "dense",
        group == "depthwise",
        group == "memory_bound",
        kind == "pointwise",
        kernel.kernel[0] * kernel.kernel[1],
        kernel.stride[0],
        kernel.in_hw[0] * kernel.in_hw[1],
        kernel.out_hw[0] * kernel.out_hw[1],
        kernel.out_hw[1],
        "add" in fused,
        not _TRANSCENDENTAL.isdisjoint(fused),
        len(fused),
        1.0 if kernel.dilation == (1, 1) else _inside(kernel),
        max(kernel.kernel),
        max(kernel.stride),
        max(kernel.dilation),
        kernel.out_hw[0],
        ELEMENT_BYTES.get(kernel.precision, 4),
    )


def _inside(kernel: KernelSpec) -> float:
    """Share of a convolution's taps inside its map, relative to the same one without dilation; in (0, 1]."""
    share = 1.0
    for side, reach, size in zip(kernel.kernel, kernel.dilation, kernel.in_hw, strict=True):
        away = np.abs(np.arange(side) - (side - 1) / 2) / max(size, 1)
        share *= np.maximum(1.0 - away * reach, 0.0).sum() / np.maximum(1.0 - away, 0.0).sum()
    return float(share)


def context_columns(table: KernelTable) -> Array:
    """Compute explanatory columns for a kernel's deviation from its roofline, (n, 19): size, shape, alignment, traffic, context."""
    macs, read, written, weights, inner, outer = table.facts.T[:6]
    area, stride, in_px, out_px, width, add, transcendental, _ = table.facts.T[_SHAPES:INSIDE]
    moved = read + written + weights
    previous = np.concatenate([[0.0], written[:-1]])
    previous[list(table.starts)] = 0.0
    return np.stack(
        [
            np.log2(1.0 + macs),
            np.log2(1.0 + read),
            np.log2(1.0 + written),
            np.log2(1.0 + weights),
            np.log2(1.0 + moved),
            np.log2(1.0 + macs / np.maximum(moved, 1.0)),
            np.log2(1.0 + inner),
            np.log2(1.0 + outer),
            _filling(inner),
            _filling(outer),
            area,
            stride,
            np.log2(1.0 + in_px),
            np.log2(1.0 + out_px),
            width,
            width % BLOCK,
            add,
            transcendental,
            np.log2(1.0 + previous),
        ],
        axis=1,
    )


def _filling(channels: Array) -> Array:
    """Utilisation of the channel blocks, in (0, 1]."""
    return np.asarray(np.maximum(channels, 1.0) / (np.ceil(np.maximum(channels, 1.0) / BLOCK) * BLOCK))
