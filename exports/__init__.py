"""A trained candidate as files that a device can run: ONNX, parity with torch, precision, target profiles, TensorRT, bundles."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from exports.errors import ExportError
from exports.profiles import PROFILES, DeviceProfile, get_profile

if TYPE_CHECKING:
    from exports.bundle.inputs import BundleInputs
    from exports.bundle.read import ExportBundle, load_network, read_bundle
    from exports.bundle.write import add_measurement, write_bundle
    from exports.lint import LintFinding, lint_onnx, lint_summary
    from exports.network_file import TrainedNetwork, read_network, write_network
    from exports.onnx.export import OnnxFile, export_onnx
    from exports.onnx.parity import ParityReport, check_parity
    from exports.onnx.runtime import OnnxSession
    from exports.quantization.qdq import export_quantized
    from exports.quantization.quantize import QuantizedNet, half_precision, quantize

# Names that need torch, onnx, or onnxruntime are imported when first used, so that `paretoseg --help` stays quick.
_LAZY = {
    "BundleInputs": "exports.bundle.inputs",
    "ExportBundle": "exports.bundle.read",
    "LintFinding": "exports.lint",
    "OnnxFile": "exports.onnx.export",
    "OnnxSession": "exports.onnx.runtime",
    "ParityReport": "exports.onnx.parity",
    "QuantizedNet": "exports.quantization.quantize",
    "TrainedNetwork": "exports.network_file",
    "add_measurement": "exports.bundle.write",
    "check_parity": "exports.onnx.parity",
    "export_onnx": "exports.onnx.export",
    "export_quantized": "exports.quantization.qdq",
    "half_precision": "exports.quantization.quantize",
    "lint_onnx": "exports.lint",
    "lint_summary": "exports.lint",
    "load_network": "exports.bundle.read",
    "quantize": "exports.quantization.quantize",
    "read_bundle": "exports.bundle.read",
    "read_network": "exports.network_file",
    "write_bundle": "exports.bundle.write",
    "write_network": "exports.network_file",
}

__all__ = [
    "PROFILES",
    "BundleInputs",
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
