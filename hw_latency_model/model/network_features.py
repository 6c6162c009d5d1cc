"""Network features, the input of the correction: size, and shares of the time by class of kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import (
    DENSE,
    LAUNCHES,
    MACS,
    POINTWISE,
    READ,
    WEIGHTS,
    WRITTEN,
    KernelTable,
)

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

SIZE_FEATURES = 5
FEATURES = 10
_DEPTHWISE_SHARE = 7
GROUPS = ("dense", "depthwise")
"""Groups of networks whose intervals are calibrated apart."""
MIN_DEPTHWISE_SHARE = 0.05
"""Share of the prior's time in depthwise kernels from which a network is in the group ``depthwise``."""


def network_features(table: KernelTable, costs: Array) -> Array:
    """Compute features (m, 10): logs of prior time, MACs, activation and weight traffic, launches, MACs per byte; then the
    shares of the prior's time in dense, depthwise, memory-bound and pointwise kernels.

    Args:
        table: kernels of the networks.
        costs: (n,) prior time of each kernel.
    """
    facts = table.facts
    each = np.empty((len(table), 9))
    each[:, 0] = costs
    each[:, 1] = facts[:, MACS]
    each[:, 2] = facts[:, READ] + facts[:, WRITTEN]
    each[:, 3] = facts[:, WEIGHTS]
    each[:, 4] = facts[:, LAUNCHES]
    each[:, 5:] = facts[:, DENSE : POINTWISE + 1] * costs[:, None]
    sums = table.sums(each)
    features = np.empty((len(sums), FEATURES))
    total = np.maximum(sums[:, 0], 1e-9)
    features[:, 0] = np.log(total)
    features[:, 1:5] = np.log1p(sums[:, 1:5])
    features[:, 5] = features[:, 1] - features[:, 2]
    features[:, 6:] = sums[:, 5:] / total[:, None]
    return features


def network_groups(features: Array) -> Indices:
    """Index into ``GROUPS`` of each network, (m,), from its features (m, 10)."""
    return (features[:, _DEPTHWISE_SHARE] >= MIN_DEPTHWISE_SHARE).astype(np.intp)
