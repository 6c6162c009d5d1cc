"""Content of a bundle's ``manifest.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from exports.bundle.inputs import BundleInputs
from exports.bundle.read import SCHEMA_VERSION
from exports.lint import lint_onnx, lint_summary, peak_memory_mb
from exports.onnx.export import OnnxFile
from exports.onnx.graph import count_graph_params
from exports.onnx.model_file import load_graph
from exports.profiles import PROFILES_VERSION, DeviceProfile
from exports.quantization.net import QuantizedNet

_RULE = (
    "Upsample the logits bilinearly (half-pixel centres, align_corners false) to the size you want, then take the "
    "class with the largest logit of each pixel."
)


def bundle_manifest(
    onnx_file: OnnxFile, inputs: BundleInputs, *, parity: Mapping[str, Any], checkpoint: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Make the manifest of an exported network, without the checksums of the bundle's files.

    Args:
        parity: agreement of the file with torch.
        checkpoint: name and SHA-256 of the file that the weights came from.
    """
    network = inputs.network
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "paretoseg bundle",
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "candidate": network.candidate.to_dict(),
        "profile": _profile_facts(inputs.profile),
        "precision": _precision_facts(network.precision, network.quantized),
        "input": _input_facts(onnx_file, network.mean, network.std),
        "output": _output_facts(onnx_file),
        "classes": {
            "names": list(network.class_names),
            "palette": [list(colour) for colour in inputs.palette],
            "ignore_index": network.ignore_index,
        },
        "network": {
            "macs": onnx_file.macs,
            "params": _params(onnx_file, network.quantized),
            "peak_memory_mb": _peak_memory_mb(onnx_file) if network.quantized is None else None,
        },
        "parity": dict(parity),
        "lint": _lint_facts(onnx_file, inputs.profile),
        "facts": dict(inputs.facts),
        "checkpoint": checkpoint,
        "versions": _versions(),
        "measurements": [],
    }


def _profile_facts(profile: DeviceProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "description": profile.description,
        "runtime": profile.runtime,
        "precisions": list(profile.precisions),
        "tensorrt": list(profile.tensorrt),
        "table_version": PROFILES_VERSION,
    }


def _precision_facts(precision: str, quantized: QuantizedNet | None) -> dict[str, Any]:
    if quantized is None:
        return {"name": precision}
    convolutions = [step for step in quantized.program.steps if step.op in ("Conv", "ConvTranspose")]
    return {
        "name": precision,
        "weights": f"int{quantized.weight_bits}, symmetric, one scale for each output channel",
        "activations": "uint8, one scale and zero point for each tensor",
        "convolutions": len(convolutions),
        "integer_convolutions": len(quantized.placement.integer_steps),
    }


def _params(onnx_file: OnnxFile, quantized: QuantizedNet | None) -> int:
    if quantized is not None:
        return sum(parameter.numel() for parameter in quantized.parameters())
    return count_graph_params(load_graph(onnx_file.path))


def _peak_memory_mb(onnx_file: OnnxFile) -> float:
    return round(peak_memory_mb(load_graph(onnx_file.path)), 3)


def _input_facts(onnx_file: OnnxFile, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    return {
        "name": onnx_file.input_name,
        "dtype": "float32",
        "layout": "NCHW",
        "shape": list(onnx_file.input_shape),
        "height_px": onnx_file.input_shape[2],
        "width_px": onnx_file.input_shape[3],
        "colour_order": "RGB",
        "resize": "bicubic with antialiasing, as Pillow does",
        "normalise": "(value / 255 - mean) / std per channel",
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
    }


def _output_facts(onnx_file: OnnxFile) -> dict[str, Any]:
    return {
        "name": onnx_file.output_name,
        "dtype": "float32",
        "layout": "NCHW",
        "shape": list(onnx_file.output_shape),
        "num_classes": onnx_file.output_shape[1],
        "stride": onnx_file.input_shape[2] // onnx_file.output_shape[2],
        "rule": _RULE,
    }


def _lint_facts(onnx_file: OnnxFile, profile: DeviceProfile) -> dict[str, Any]:
    findings = lint_onnx(onnx_file.path, profile)
    return {
        "profile": profile.name,
        "summary": lint_summary(findings, profile),
        "findings": [asdict(finding) for finding in findings],
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in ("paretoseg", "torch", "timm", "onnx", "onnxslim", "onnxruntime", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
