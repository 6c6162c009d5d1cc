"""Physical bounds of a network's latency: the device's peak from below, its slowest plausible efficiency from above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import LAUNCHES, MACS, READ, WEIGHTS, WRITTEN, KernelTable

Array = NDArray[np.float64]

PEAK_FACTOR = 3.0
"""Factor between the peak and the best rate of any whole network: no kernel mix is faster than that."""
SLOWEST_SHARE = 0.02
"""Share of the best rates that any plausible kernel reaches."""


@dataclass(frozen=True)
class PhysicalBounds:
    """Rates that no network exceeds, from a data sheet or from measured networks.

    Attributes:
        macs_per_ms: multiply-accumulates per millisecond at the peak.
        bytes_per_ms: memory traffic per millisecond at the peak.
        launch_ms: time of the launch of one kernel, at most.
    """

    macs_per_ms: float
    bytes_per_ms: float
    launch_ms: float

    @classmethod
    def of_networks(cls, table: KernelTable, latency_ms: Array) -> PhysicalBounds:
        """Compute the bounds from measured networks, whose kernels ``table`` holds and whose latencies are (networks,)."""
        macs, _, moved, launches = _work(table)
        return cls(
            PEAK_FACTOR * float(np.max(macs / latency_ms)),
            PEAK_FACTOR * float(np.max(moved / latency_ms)),
            float(np.max(latency_ms / np.maximum(launches, 1.0))),
        )

    def low_high_ms(self, table: KernelTable) -> tuple[Array, Array]:
        """Compute the bounds (networks,) of each network's milliseconds."""
        macs, weights, moved, launches = _work(table)
        compute, memory = macs / self.macs_per_ms, moved / self.bytes_per_ms
        low = np.maximum(compute, weights / self.bytes_per_ms)
        return low, (compute + memory) / SLOWEST_SHARE + self.launch_ms * launches

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PhysicalBounds:
        """Inverse of ``to_dict``. Raises KeyError/TypeError/ValueError on a damaged value."""
        return cls(*(float(value[name]) for name in cls.__dataclass_fields__))


def _work(table: KernelTable) -> tuple[Array, Array, Array, Array]:
    """MACs, bytes of weights, bytes of all traffic, and launches of each network, (networks,).

    Activations may stay in a cache between two kernels, so only the weights are sure to be read from memory.
    """
    facts = table.facts
    moved = facts[:, READ] + facts[:, WRITTEN] + facts[:, WEIGHTS]
    sums = table.sums(np.column_stack([facts[:, MACS], facts[:, WEIGHTS], moved, facts[:, LAUNCHES]]))
    return sums[:, 0], sums[:, 1], np.maximum(sums[:, 2], 1.0), sums[:, 3]
