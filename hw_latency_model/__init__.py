"""How long a network takes on one device: kernels, measurements, a calibrated model with honest intervals."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hw_latency_model.types import KernelSpec, LatencyEstimate, Measurement, TargetEstimate, fingerprint_id

if TYPE_CHECKING:
    from hw_latency_model.board_calibration import calibrate_board
    from hw_latency_model.board_report import BoardCalibrationReport
    from hw_latency_model.boxed import calibrated_or_boxed, load_boxed
    from hw_latency_model.calibration import CalibrationReport, calibrate
    from hw_latency_model.candidate_kernels import CandidateKernels
    from hw_latency_model.device_config import load_device
    from hw_latency_model.devices import Device, LocalCpuDevice, get_device
    from hw_latency_model.few_shot_pool import NetworkPool
    from hw_latency_model.kernel_table import KernelTable
    from hw_latency_model.kernels import kernels_from_module, kernels_from_onnx
    from hw_latency_model.latency_report import LatencyReport, build_latency_report
    from hw_latency_model.measure import measure_bundle
    from hw_latency_model.model import LatencyModel
    from hw_latency_model.nano_prior import NanoPrior
    from hw_latency_model.store import MeasurementStore, StoredMeasurement
    from hw_latency_model.store_files import export_measurements, import_measurements
    from hw_latency_model.transfer import FewShotModel, FewShotPrediction

# Names that need torch, onnx, onnxruntime, scipy or sqlalchemy are imported when first used.
_LAZY = {
    "BoardCalibrationReport": "hw_latency_model.board_report",
    "CalibrationReport": "hw_latency_model.calibration",
    "CandidateKernels": "hw_latency_model.candidate_kernels",
    "Device": "hw_latency_model.devices",
    "FewShotModel": "hw_latency_model.transfer",
    "FewShotPrediction": "hw_latency_model.transfer",
    "KernelTable": "hw_latency_model.kernel_table",
    "NetworkPool": "hw_latency_model.few_shot_pool",
    "LatencyModel": "hw_latency_model.model",
    "LatencyReport": "hw_latency_model.latency_report",
    "LocalCpuDevice": "hw_latency_model.devices",
    "MeasurementStore": "hw_latency_model.store",
    "NanoPrior": "hw_latency_model.nano_prior",
    "StoredMeasurement": "hw_latency_model.store",
    "build_latency_report": "hw_latency_model.latency_report",
    "calibrate": "hw_latency_model.calibration",
    "calibrate_board": "hw_latency_model.board_calibration",
    "calibrated_or_boxed": "hw_latency_model.boxed",
    "export_measurements": "hw_latency_model.store_files",
    "get_device": "hw_latency_model.devices",
    "import_measurements": "hw_latency_model.store_files",
    "kernels_from_module": "hw_latency_model.kernels",
    "kernels_from_onnx": "hw_latency_model.kernels",
    "load_boxed": "hw_latency_model.boxed",
    "load_device": "hw_latency_model.device_config",
    "measure_bundle": "hw_latency_model.measure",
}

__all__ = [
    "BoardCalibrationReport",
    "CalibrationReport",
    "CandidateKernels",
    "Device",
    "FewShotModel",
    "FewShotPrediction",
    "KernelSpec",
    "KernelTable",
    "LatencyEstimate",
    "LatencyModel",
    "LatencyReport",
    "LocalCpuDevice",
    "Measurement",
    "MeasurementStore",
    "NanoPrior",
    "NetworkPool",
    "StoredMeasurement",
    "TargetEstimate",
    "build_latency_report",
    "calibrate",
    "calibrate_board",
    "calibrated_or_boxed",
    "export_measurements",
    "fingerprint_id",
    "get_device",
    "import_measurements",
    "kernels_from_module",
    "kernels_from_onnx",
    "load_boxed",
    "load_device",
    "measure_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hw_latency_model' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
