"""A network's kernels as arrays: what all priors and corrections compute on, worked out once per network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.kinds import class_of
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]

_DEAR = frozenset({"hard_swish", "silu", "sigmoid", "tanh", "hard_sigmoid", "gelu"})
MACS, READ, WRITTEN, WEIGHTS, INNER, OUTER, GROUPS, LAUNCHES = range(8)
DENSE, DEPTHWISE, MOVING, POINTWISE = range(8, 12)
_SHAPES = 12
_FACTS = 20
BLOCK = 16


@dataclass(frozen=True)
class KernelTable:
    """Kernels of one or more networks, one after the other.

    Attributes:
        kinds: kind of each kernel.
        before, after: kind of the kernel that stands before and after it in its network; ``""`` at the ends.
        facts: (n, 20) numbers of each kernel: MACs, bytes read, bytes written, bytes of weights, input channels, output
            channels, groups, launches (0 for a view), whether it is dense, depthwise, moving, pointwise, then its shape.
        starts: index of each network's first kernel.
        kernels: what the table was made of.
    """

    kinds: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    facts: Array
    starts: tuple[int, ...]
    kernels: tuple[KernelSpec, ...]

    @classmethod
    def of(cls, kernels: Sequence[KernelSpec]) -> KernelTable:
        """The table of one network."""
        kinds = tuple(kernel.kind for kernel in kernels)
        facts = np.array([_facts(kernel) for kernel in kernels], dtype=np.float64).reshape(-1, _FACTS)
        before, after = (("", *kinds[:-1]), (*kinds[1:], "")) if kinds else ((), ())
        return cls(kinds, before, after, facts, (0,), tuple(kernels))

    @classmethod
    def join(cls, tables: Sequence[KernelTable]) -> KernelTable:
        """One table of all networks, in order; each keeps its own neighbours."""
        starts, count = [], 0
        for table in tables:
            starts += [count + start for start in table.starts]
            count += len(table.kinds)
        return cls(
            tuple(kind for table in tables for kind in table.kinds),
            tuple(kind for table in tables for kind in table.before),
            tuple(kind for table in tables for kind in table.after),
            np.concatenate([table.facts for table in tables]) if tables else np.zeros((0, _FACTS)),
            tuple(starts),
            tuple(kernel for table in tables for kernel in table.kernels),
        )

    def sums(self, values: Array) -> Array:
        """(networks, ...) sums over each network's kernels of ``values`` (n, ...)."""
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
        group == "moving",
        kind == "pointwise",
        kernel.kernel[0] * kernel.kernel[1],
        kernel.stride[0],
        kernel.in_hw[0] * kernel.in_hw[1],
        kernel.out_hw[0] * kernel.out_hw[1],
        kernel.out_hw[1],
        "add" in fused,
        not _DEAR.isdisjoint(fused),
        len(fused),
    )


def context_columns(table: KernelTable) -> Array:
    """(n, 19) what may explain how far a kernel is off its roofline: size, shape, alignment, traffic, surroundings."""
    macs, read, written, weights, inner, outer = table.facts.T[:6]
    area, stride, in_px, out_px, width, add, dear, _ = table.facts.T[_SHAPES:]
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
            dear,
            np.log2(1.0 + previous),
        ],
        axis=1,
    )


def _filling(channels: Array) -> Array:
    """How full the blocks of channels are, in (0, 1]."""
    return np.asarray(np.maximum(channels, 1.0) / (np.ceil(np.maximum(channels, 1.0) / BLOCK) * BLOCK))
