"""Models of energy and peak memory, in files beside the latency model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_latency_model.model.fitting import MIN_MEASUREMENTS
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.model.prior import KernelPrior
from hw_latency_model.model.targets import kernels_for
from hw_latency_model.types import KernelSpec, Measurement
from search_spaces._common.errors import UserError

MODEL_FILES = {"energy_mj": "energy_model.json", "memory_peak_mb": "memory_model.json"}


def fit_cost_models(
    measurements: Sequence[Measurement],
    latency_model: Path,
    *,
    device: str,
    fingerprint: Mapping[str, Any],
    times: KernelPrior | None = None,
) -> tuple[Path, ...]:
    """Fit a model of each target with enough measurements, and save it beside the latency model.

    Args:
        measurements: measurements of one device, fingerprint and precision, with their kernels.
        latency_model: path of the device's latency model.
        times: prior of that model, from which the prior of energy is derived: time at the device's mean power.

    Returns:
        The files written; none for a device that measures neither power nor memory.

    Raises:
        UserError: a file cannot be written.
    """
    written = []
    for target, name in MODEL_FILES.items():
        usable = [item for item in measurements if getattr(item, target) is not None]
        if len({item.subject for item in usable}) < MIN_MEASUREMENTS:
            continue
        path = latency_model.with_name(name)
        prior = times if target == "energy_mj" else None
        LatencyModel.fit(usable, device=device, fingerprint=fingerprint, target=target, prior=prior).save(path)
        written.append(path)
    return tuple(written)


def load_cost_model(latency_model: Path, target: str, *, device: str, precision: str) -> LatencyModel | None:
    """Load the model of a target beside a latency model; None if there is none.

    Raises:
        UserError: it is damaged, or of another device or precision.
    """
    path = latency_model.with_name(MODEL_FILES[target])
    if not path.is_file():
        return None
    model = LatencyModel.load(path)
    if (model.device, model.precision) != (device, precision):
        raise UserError(
            f"the model {path} speaks for {model.device} in {model.precision}, not for {device} in {precision}. "
            "Calibrate that device in that precision, or move the file away."
        )
    return model


def memory_floor_mb(kernels: Sequence[KernelSpec]) -> float:
    """Lower bound on a network's memory in MB of 10^6 bytes: its weights and the largest activations that one kernel reads and
    writes. The runtime itself, with hundreds of MB under TensorRT, is not included; it is the same for all networks."""
    parts = kernels_for(kernels, "memory_peak_mb")
    return sum(part.weight_bytes + part.activation_bytes for part in parts) / 1e6
