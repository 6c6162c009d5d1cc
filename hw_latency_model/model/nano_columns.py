"""Kernels as numeric columns, in elements instead of bytes, the input of the Nano's prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}

DENSE = frozenset({"conv", "pointwise", "narrow_conv", "narrow_pointwise", "grouped_conv", "transposed_conv"})


@dataclass(frozen=True)
class KernelColumns:
    """One row per kernel; all columns are (n,).

    Attributes:
        kind: index into ``kinds``.
        kinds: names of the kinds that occur.
        macs, pixels: multiply-accumulates; output positions per channel.
        inner, outer: input channels of one group, and output channels.
        groups, taps, side, stride, dilation: of a convolution; ``taps`` is kernel height times width, ``side`` the longer one.
        height, width: size of the output map; 0 without one.
        read, written, weights: elements moved.
        added: 1 with a fused addition.
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


def kernel_columns(kernels: Sequence[KernelSpec], starts: Sequence[int] = (0,)) -> KernelColumns:
    """Build the columns; bytes are converted to elements by each kernel's precision.

    Args:
        kernels: kernels of one network, or of several consecutively.
        starts: index of each network's first kernel.
    """
    kinds = tuple(sorted({kernel.kind for kernel in kernels}))
    index = {kind: row for row, kind in enumerate(kinds)}
    facts = np.array([_facts(kernel) for kernel in kernels], dtype=np.float64).reshape(-1, 15)
    kind = np.array([index[kernel.kind] for kernel in kernels], dtype=np.intp)
    first = np.zeros(len(kind))
    first[[start for start in starts if start < len(kind)]] = 1.0
    return KernelColumns(kinds, kind, *np.column_stack([facts, first]).T)


def joined_columns(networks: Sequence[Sequence[KernelSpec]]) -> KernelColumns:
    """Build the columns of several networks consecutively."""
    starts = np.cumsum([0, *(len(kernels) for kernels in networks)])[:-1]
    return kernel_columns([kernel for kernels in networks for kernel in kernels], starts.tolist())


def _facts(kernel: KernelSpec) -> tuple[float, ...]:
    size = ELEMENT_BYTES.get(kernel.precision, 4)
    groups = max(kernel.groups, 1)
    height, width = kernel.out_hw
    return (
        kernel.macs,
        max(height * width, 1),
        max(kernel.in_channels // groups, 1),
        max(kernel.out_channels, 1),
        groups,
        max(kernel.kernel[0] * kernel.kernel[1], 1),
        max(*kernel.kernel, 1),
        max(*kernel.stride, 1),
        max(*kernel.dilation, 1),
        height,
        width,
        kernel.input_bytes / size,
        kernel.output_bytes / size,
        kernel.weight_bytes / size,
        float("add" in kernel.fused),
    )
