"""Export of trained candidates: ONNX, parity with torch, quantization, device profiles, bundles."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from exports.errors import ExportError as ExportError, ParityError as ParityError
from exports.profiles import PROFILES as PROFILES, DeviceProfile as DeviceProfile, get_profile as get_profile
from search_spaces._common.lazy import lazy_exports

if TYPE_CHECKING:
    from exports.bundle.inputs import BundleInputs as BundleInputs
    from exports.bundle.read import (
        ExportBundle as ExportBundle,
        load_network as load_network,
        read_bundle as read_bundle,
    )
    from exports.bundle.write import (
        add_engine as add_engine,
        add_measurement as add_measurement,
        mark_superseded as mark_superseded,
        write_bundle as write_bundle,
    )
    from exports.lint import LintFinding as LintFinding, lint_onnx as lint_onnx, lint_summary as lint_summary
    from exports.network_file import (
        TrainedNetwork as TrainedNetwork,
        read_network as read_network,
        write_network as write_network,
    )
    from exports.onnx.export import OnnxFile as OnnxFile, export_onnx as export_onnx
    from exports.onnx.parity import ParityReport as ParityReport, check_parity as check_parity
    from exports.onnx.runtime import OnnxSession as OnnxSession
    from exports.quantization.qdq import export_quantized as export_quantized
    from exports.quantization.quantize import (
        QuantizedNet as QuantizedNet,
        half_precision as half_precision,
        quantize as quantize,
    )

# ONNX Runtime sends usage data, and opens a database in the user's home for them, as soon as it is imported; other packages import it, too.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Names that need torch, onnx or onnxruntime are imported on first use.
__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "bundle.inputs": ("BundleInputs",),
        "bundle.read": ("ExportBundle", "load_network", "read_bundle"),
        "bundle.write": ("add_engine", "add_measurement", "mark_superseded", "write_bundle"),
        "lint": ("LintFinding", "lint_onnx", "lint_summary"),
        "network_file": ("TrainedNetwork", "read_network", "write_network"),
        "onnx.export": ("OnnxFile", "export_onnx"),
        "onnx.parity": ("ParityReport", "check_parity"),
        "onnx.runtime": ("OnnxSession",),
        "quantization.qdq": ("export_quantized",),
        "quantization.quantize": ("QuantizedNet", "half_precision", "quantize"),
    },
    eager=("DeviceProfile", "ExportError", "ParityError", "PROFILES", "get_profile"),
)
