"""Models of what else a device can tell about a network, energy and peak memory: files beside its latency model."""

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
    """Fit a model of each target that enough of the measurements tell, and save it beside the latency model.

    Args:
        measurements: of one device, set-up and precision, with their kernels.
        latency_model: path of the device's latency model.
        times: that model's prior. Energy starts from it: a kernel's time at the device's mean power.

    Returns:
        The files written; none where the device has no power rail and tells no memory.

    Raises:
        UserError: a file cannot be written.
    """
    written = []
    for target, name in MODEL_FILES.items():
        told = [item for item in measurements if getattr(item, target) is not None]
        if len({item.subject for item in told}) < MIN_MEASUREMENTS:
            continue
        path = latency_model.with_name(name)
        prior = times if target == "energy_mj" else None
        LatencyModel.fit(told, device=device, fingerprint=fingerprint, target=target, prior=prior).save(path)
        written.append(path)
    return tuple(written)


def load_cost_model(latency_model: Path, target: str, *, device: str, precision: str) -> LatencyModel | None:
    """The model of a target beside a latency model; None where there is none.

    Raises:
        UserError: it is damaged, or speaks for another device or precision.
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
    """The least that a network needs, in MB of 10^6 bytes: its weights and the largest activations that one kernel reads and
    writes. What the runtime takes for itself, hundreds of MB under TensorRT, comes on top and is the same for all."""
    parts = kernels_for(kernels, "memory_peak_mb")
    return sum(part.weight_bytes + part.activation_bytes for part in parts) / 1e6
