"""Networks described by their kernels, for few-shot models: additive terms of their time, and features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.pool import NetworkPool
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]

_LEAST_SHARE = 0.02
"""Share of the networks that a kind of kernel must be in to have terms of its own."""
_OTHER = "other"


def kernel_pool(networks: Sequence[Sequence[KernelSpec]], sources_ms: Array | None = None) -> NetworkPool:
    """Build the pool of networks given by their kernels, with latencies (n, m) in ms on other devices, NaN where unknown.

    The additive terms are a constant, and launches, multiply-accumulates and bytes of each kind of kernel; the features are their
    logarithms, and the sums over all kinds.
    """
    kinds = _kinds(networks)
    rows = []
    for kernels in networks:
        sums = {kind: np.zeros(3) for kind in kinds}
        for kernel in kernels:
            if kernel.kind == "view":
                continue
            kind = kernel.kind if kernel.kind in sums else _OTHER
            sums[kind] += (1.0, kernel.macs, kernel.weight_bytes + kernel.activation_bytes)
        rows.append([sums[kind] for kind in kinds])
    table = np.array(rows, dtype=np.float64).reshape(len(networks), len(kinds), 3)
    terms = np.hstack([np.ones((len(networks), 1)), table.reshape(len(networks), -1)])
    totals = table.sum(axis=1)
    views = (np.log1p(table.reshape(len(networks), -1)), np.log1p(totals))
    return NetworkPool.of(views, terms, sources_ms, work=totals[:, 1])


def _kinds(networks: Sequence[Sequence[KernelSpec]]) -> list[str]:
    """Return the kinds that are common enough to have terms of their own, and one for all others."""
    counts: dict[str, int] = {}
    for kernels in networks:
        for kind in {kernel.kind for kernel in kernels} - {"view"}:
            counts[kind] = counts.get(kind, 0) + 1
    least = max(_LEAST_SHARE * len(networks), 2.0)
    return [*sorted(kind for kind, count in counts.items() if count >= least), _OTHER]
