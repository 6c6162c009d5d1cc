"""How long a network takes on one device: kernels, measurements, a calibrated model with honest intervals."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hw_latency_model.types import KernelSpec, LatencyEstimate, Measurement, fingerprint_id

if TYPE_CHECKING:
    from hw_latency_model.calibration import CalibrationReport, calibrate
    from hw_latency_model.devices import Device, LocalCpuDevice, get_device
    from hw_latency_model.kernels import kernels_from_module, kernels_from_onnx
    from hw_latency_model.measure import measure_bundle
    from hw_latency_model.model import LatencyModel
    from hw_latency_model.store import MeasurementStore

# Names that need torch, onnx, onnxruntime, scipy or sqlalchemy are imported when first used.
_LAZY = {
    "CalibrationReport": "hw_latency_model.calibration",
    "Device": "hw_latency_model.devices",
    "LatencyModel": "hw_latency_model.model",
    "LocalCpuDevice": "hw_latency_model.devices",
    "MeasurementStore": "hw_latency_model.store",
    "calibrate": "hw_latency_model.calibration",
    "get_device": "hw_latency_model.devices",
    "kernels_from_module": "hw_latency_model.kernels",
    "kernels_from_onnx": "hw_latency_model.kernels",
    "measure_bundle": "hw_latency_model.measure",
}

__all__ = [
    "CalibrationReport",
    "Device",
    "KernelSpec",
    "LatencyEstimate",
    "LatencyModel",
    "LocalCpuDevice",
    "Measurement",
    "MeasurementStore",
    "calibrate",
    "fingerprint_id",
    "get_device",
    "kernels_from_module",
    "kernels_from_onnx",
    "measure_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hw_latency_model' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
