"""Targets of a model: latency, energy, peak memory; and the kernels that represent a network for each."""

from __future__ import annotations

from collections.abc import Sequence

from hw_latency_model.types import KernelSpec, Measurement
from search_spaces._common.errors import UserError

TARGETS = ("latency_ms", "energy_mj", "memory_peak_mb")


def target_value(measurement: Measurement, target: str) -> float:
    """Read the target's value of a measurement, in its unit.

    Raises:
        UserError: the target is unknown, or the measurement does not have it.
    """
    if target not in TARGETS:
        raise UserError(f"a model predicts one of {', '.join(TARGETS)}, not {target!r}; name one of them.")
    value = measurement.latency_ms_p50 if target == "latency_ms" else getattr(measurement, target)
    if value is None:
        raise UserError(
            f"the measurement of {measurement.subject} on {measurement.device} has no {target}; "
            "measure it on a board that can tell, or leave it out."
        )
    return float(value)


def kernels_for(kernels: Sequence[KernelSpec], target: str) -> Sequence[KernelSpec]:
    """Return the parts whose costs add up to the target.

    Times and energies add up over kernels. Peak memory does not: it is the sum of the weights, the largest set of
    activations that one kernel needs, and the runtime's own memory.
    """
    if target != "memory_peak_mb" or not kernels:
        return kernels
    weights = sum(kernel.weight_bytes for kernel in kernels)
    largest = max(kernels, key=lambda kernel: kernel.activation_bytes)
    return (
        KernelSpec("weights", "weights", 0, weights, 0, 0),
        KernelSpec("activations", largest.name, 0, largest.input_bytes, 0, largest.output_bytes),
        KernelSpec("runtime", "runtime", 0, 0, 0, 0),
    )
