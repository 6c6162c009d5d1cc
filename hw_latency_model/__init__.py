"""Latency of a network on one device: kernels, measurements, and a calibrated model with prediction intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hw_latency_model.types import (
    KernelSpec as KernelSpec,
    LatencyEstimate as LatencyEstimate,
    LatencyPredictor as LatencyPredictor,
    Measurement as Measurement,
    TargetEstimate as TargetEstimate,
    fingerprint_id as fingerprint_id,
)
from search_spaces._common.lazy import lazy_exports

if TYPE_CHECKING:
    from hw_latency_model.board.calibration import calibrate_board as calibrate_board
    from hw_latency_model.board.device_config import load_device as load_device
    from hw_latency_model.board.report import BoardCalibrationReport as BoardCalibrationReport
    from hw_latency_model.bundled.load import (
        calibrated_or_bundled as calibrated_or_bundled,
        load_bundled as load_bundled,
    )
    from hw_latency_model.few_shot.pool import NetworkPool as NetworkPool
    from hw_latency_model.few_shot.transfer import FewShotModel as FewShotModel, FewShotPrediction as FewShotPrediction
    from hw_latency_model.kernels.candidate_kernels import CandidateKernels as CandidateKernels
    from hw_latency_model.kernels.extract import (
        kernels_from_module as kernels_from_module,
        kernels_from_onnx as kernels_from_onnx,
    )
    from hw_latency_model.kernels.table import KernelTable as KernelTable
    from hw_latency_model.local.calibration import CalibrationReport as CalibrationReport, calibrate as calibrate
    from hw_latency_model.local.device import (
        Device as Device,
        LocalCpuDevice as LocalCpuDevice,
        get_device as get_device,
    )
    from hw_latency_model.local.measure import measure_bundle as measure_bundle
    from hw_latency_model.model.latency_model import LatencyModel as LatencyModel
    from hw_latency_model.model.nano_prior import NanoPrior as NanoPrior
    from hw_latency_model.report.latency_report import (
        LatencyReport as LatencyReport,
        build_latency_report as build_latency_report,
    )
    from hw_latency_model.store.files import (
        export_measurements as export_measurements,
        import_measurements as import_measurements,
    )
    from hw_latency_model.store.measurement_store import (
        MeasurementStore as MeasurementStore,
        StoredMeasurement as StoredMeasurement,
    )

# Names that need torch, onnx, onnxruntime, scipy or sqlalchemy are imported on first use.
__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "board.calibration": ("calibrate_board",),
        "board.device_config": ("load_device",),
        "board.report": ("BoardCalibrationReport",),
        "bundled.load": ("calibrated_or_bundled", "load_bundled"),
        "few_shot.pool": ("NetworkPool",),
        "few_shot.transfer": ("FewShotModel", "FewShotPrediction"),
        "kernels.candidate_kernels": ("CandidateKernels",),
        "kernels.extract": ("kernels_from_module", "kernels_from_onnx"),
        "kernels.table": ("KernelTable",),
        "local.calibration": ("CalibrationReport", "calibrate"),
        "local.device": ("Device", "LocalCpuDevice", "get_device"),
        "local.measure": ("measure_bundle",),
        "model.latency_model": ("LatencyModel",),
        "model.nano_prior": ("NanoPrior",),
        "report.latency_report": ("LatencyReport", "build_latency_report"),
        "store.files": ("export_measurements", "import_measurements"),
        "store.measurement_store": ("MeasurementStore", "StoredMeasurement"),
    },
    eager=("KernelSpec", "LatencyEstimate", "LatencyPredictor", "Measurement", "TargetEstimate", "fingerprint_id"),
)
