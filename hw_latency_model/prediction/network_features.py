"""What the correction sees of a whole network: how large it is, and where its time goes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import (
    DENSE,
    DEPTHWISE,
    LAUNCHES,
    MACS,
    MOVING,
    POINTWISE,
    READ,
    WEIGHTS,
    WRITTEN,
    KernelTable,
)

Array = NDArray[np.float64]

SIZE_FEATURES = 5
FEATURES = 10


def network_features(table: KernelTable, costs: Array) -> Array:
    """(m, 10) of each network: logs of prior time, MACs, activation and weight traffic, launches, MACs per byte; then the
    shares of the prior's time in dense, depthwise, moving and pointwise kernels.

    Args:
        table: the networks' kernels.
        costs: (n,) the prior's time of each kernel.
    """
    facts = table.facts
    moved = facts[:, READ] + facts[:, WRITTEN]
    sums = table.sums(np.column_stack([costs, facts[:, MACS], moved, facts[:, WEIGHTS], facts[:, LAUNCHES]]))
    total = np.maximum(sums[:, 0], 1e-9)
    groups = facts[:, [DENSE, DEPTHWISE, MOVING, POINTWISE]]
    shares = table.sums(groups * costs[:, None]) / total[:, None]
    logs = np.log1p(sums[:, 1:])
    return np.column_stack([np.log(total), logs, logs[:, 0] - logs[:, 1], shares])
