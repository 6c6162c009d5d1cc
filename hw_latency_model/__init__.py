"""How long a network takes on one device: kernels, measurements, a calibrated model with honest intervals."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hw_latency_model.types import (
    KernelSpec,
    LatencyEstimate,
    LatencyPredictor,
    Measurement,
    TargetEstimate,
    fingerprint_id,
)

if TYPE_CHECKING:
    from hw_latency_model.board.calibration import calibrate_board
    from hw_latency_model.board.device_config import load_device
    from hw_latency_model.board.report import BoardCalibrationReport
    from hw_latency_model.bundled.load import calibrated_or_boxed, load_boxed
    from hw_latency_model.few_shot.pool import NetworkPool
    from hw_latency_model.few_shot.transfer import FewShotModel, FewShotPrediction
    from hw_latency_model.kernels.candidate_kernels import CandidateKernels
    from hw_latency_model.kernels.extract import kernels_from_module, kernels_from_onnx
    from hw_latency_model.kernels.table import KernelTable
    from hw_latency_model.local.calibration import CalibrationReport, calibrate
    from hw_latency_model.local.device import Device, LocalCpuDevice, get_device
    from hw_latency_model.local.measure import measure_bundle
    from hw_latency_model.model.latency_model import LatencyModel
    from hw_latency_model.model.nano_prior import NanoPrior
    from hw_latency_model.report.latency_report import LatencyReport, build_latency_report
    from hw_latency_model.store.files import export_measurements, import_measurements
    from hw_latency_model.store.measurement_store import MeasurementStore, StoredMeasurement

# Names that need torch, onnx, onnxruntime, scipy or sqlalchemy are imported when first used.
_LAZY = {
    "BoardCalibrationReport": "hw_latency_model.board.report",
    "CalibrationReport": "hw_latency_model.local.calibration",
    "CandidateKernels": "hw_latency_model.kernels.candidate_kernels",
    "Device": "hw_latency_model.local.device",
    "FewShotModel": "hw_latency_model.few_shot.transfer",
    "FewShotPrediction": "hw_latency_model.few_shot.transfer",
    "KernelTable": "hw_latency_model.kernels.table",
    "NetworkPool": "hw_latency_model.few_shot.pool",
    "LatencyModel": "hw_latency_model.model.latency_model",
    "LatencyReport": "hw_latency_model.report.latency_report",
    "LocalCpuDevice": "hw_latency_model.local.device",
    "MeasurementStore": "hw_latency_model.store.measurement_store",
    "NanoPrior": "hw_latency_model.model.nano_prior",
    "StoredMeasurement": "hw_latency_model.store.measurement_store",
    "build_latency_report": "hw_latency_model.report.latency_report",
    "calibrate": "hw_latency_model.local.calibration",
    "calibrate_board": "hw_latency_model.board.calibration",
    "calibrated_or_boxed": "hw_latency_model.bundled.load",
    "export_measurements": "hw_latency_model.store.files",
    "get_device": "hw_latency_model.local.device",
    "import_measurements": "hw_latency_model.store.files",
    "kernels_from_module": "hw_latency_model.kernels.extract",
    "kernels_from_onnx": "hw_latency_model.kernels.extract",
    "load_boxed": "hw_latency_model.bundled.load",
    "load_device": "hw_latency_model.board.device_config",
    "measure_bundle": "hw_latency_model.local.measure",
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
    "LatencyPredictor",
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
