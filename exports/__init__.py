"""A trained candidate as files that a device can run: ONNX, parity with torch, precision, target profiles, TensorRT, bundles."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from exports.errors import ExportError
from exports.profiles import PROFILES, DeviceProfile, get_profile

if TYPE_CHECKING:
    from exports.bundle import ExportBundle, add_measurement, load_network, read_bundle, write_bundle
    from exports.lint import LintFinding, lint_onnx, lint_summary
    from exports.network_file import TrainedNetwork, read_network, write_network
    from exports.onnx_export import OnnxFile, export_onnx
    from exports.parity import ParityReport, check_parity
    from exports.quantization import QuantizedNet, half_precision, quantize
    from exports.quantization_qdq import export_quantized
    from exports.runtime import OnnxSession
    from exports.tensorrt_engine import build_engine

# Names that need torch, onnx, or onnxruntime are imported when first used, so that `paretoseg --help` stays quick.
_LAZY = {
    "ExportBundle": "exports.bundle",
    "LintFinding": "exports.lint",
    "OnnxFile": "exports.onnx_export",
    "OnnxSession": "exports.runtime",
    "ParityReport": "exports.parity",
    "QuantizedNet": "exports.quantization",
    "TrainedNetwork": "exports.network_file",
    "add_measurement": "exports.bundle",
    "build_engine": "exports.tensorrt_engine",
    "check_parity": "exports.parity",
    "export_onnx": "exports.onnx_export",
    "export_quantized": "exports.quantization_qdq",
    "half_precision": "exports.quantization",
    "lint_onnx": "exports.lint",
    "lint_summary": "exports.lint",
    "load_network": "exports.bundle",
    "quantize": "exports.quantization",
    "read_bundle": "exports.bundle",
    "read_network": "exports.network_file",
    "write_bundle": "exports.bundle",
    "write_network": "exports.network_file",
}

__all__ = [
    "PROFILES",
    "DeviceProfile",
    "ExportBundle",
    "ExportError",
    "LintFinding",
    "OnnxFile",
    "OnnxSession",
    "ParityReport",
    "QuantizedNet",
    "TrainedNetwork",
    "add_measurement",
    "build_engine",
    "check_parity",
    "export_onnx",
    "export_quantized",
    "get_profile",
    "half_precision",
    "lint_onnx",
    "lint_summary",
    "load_network",
    "quantize",
    "read_bundle",
    "read_network",
    "write_bundle",
    "write_network",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'exports' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
