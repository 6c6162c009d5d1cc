"""A latency function: the roofline model (Williams, Waterman and Patterson, CACM 2009) with a cost of each launch."""

from __future__ import annotations

from collections.abc import Sequence

from paretoseg import KernelSpec, LatencyEstimate

PEAK_MACS_PER_S = 20e9
BYTES_PER_S = 8e9
LAUNCH_S = 4e-6
INTERVAL = (0.6, 1.6)


def predict(kernels: Sequence[KernelSpec]) -> LatencyEstimate:
    """Sum over kernels of the time that arithmetic or memory takes, whichever is longer."""
    ms = 1000 * sum(seconds(kernel) for kernel in kernels)
    return LatencyEstimate(ms, low_ms=INTERVAL[0] * ms, high_ms=INTERVAL[1] * ms, coverage=1.0)


def seconds(kernel: KernelSpec) -> float:
    """Time of one kernel."""
    moved = kernel.input_bytes + kernel.weight_bytes + kernel.output_bytes
    return LAUNCH_S + max(kernel.macs / PEAK_MACS_PER_S, moved / BYTES_PER_S)
