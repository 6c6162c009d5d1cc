"""Static check of an ONNX graph against a device profile, in milliseconds instead of after an engine build."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from exports.onnx.graph import attributes, constant_names, opset_of, tensor_shape, value_shapes
from exports.onnx.model_file import load_graph
from exports.profiles import DeviceProfile

Severity = Literal["error", "warning", "info"]

_QDQ = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"}
# operator -> positions of inputs that must be constants for TensorRT
_CONSTANT_INPUTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Slice": (1, 2, 3, 4),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "TopK": (1,),
    "Resize": (2, 3),
    "Clip": (1, 2),
    "ReduceSum": (1,),
}
_IO_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32}
_FP16_MAX = 65504.0


@dataclass(frozen=True)
class LintFinding:
    """One problem of a graph on a device.

    Attributes:
        rule: stable identifier, for example ``forbidden-op``.
        node: name of the node or tensor; empty for the whole model.
        message: the problem and its remedy.
        severity: ``error`` does not run, ``warning`` may be slow or fragile, ``info`` is harmless.
    """

    rule: str
    node: str
    message: str
    severity: Severity

    def to_dict(self) -> dict[str, str]:
        """JSON-ready values, as they are stored in a bundle's manifest."""
        return asdict(self)


def lint_onnx(model: onnx.ModelProto | Path, profile: DeviceProfile) -> list[LintFinding]:
    """Check ``model`` against ``profile``; returns the findings, errors first.

    The rules for TensorRT 8.2 follow its documented ONNX operator table (see ``exports.profiles``).

    Raises:
        ExportError: the file is missing or is not an ONNX model.
    """
    graph_model = load_graph(model)
    findings = [
        *_opset(graph_model, profile),
        *_operators(graph_model, profile),
        *_resizes(graph_model, profile),
        *_shapes(graph_model, profile),
        *_constants(graph_model, profile),
        *_types(graph_model, profile),
        *_memory(graph_model, profile),
    ]
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: order[finding.severity])


def lint_summary(findings: Sequence[LintFinding], profile: DeviceProfile) -> str:
    """Summarise findings in one line: the verdict and its first reason."""
    errors = [finding for finding in findings if finding.severity == "error"]
    warnings = [finding for finding in findings if finding.severity == "warning"]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return f"cannot run on {profile.name}: {errors[0].message}{more}"
    if warnings:
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        return f"should run on {profile.name}, with care: {warnings[0].message}{more}"
    return f"nothing known against running on {profile.name}"


def _opset(model: onnx.ModelProto, profile: DeviceProfile) -> Iterator[LintFinding]:
    opset = opset_of(model)
    if profile.runtime == "tensorrt" and opset > profile.opset:
        message = f"opset {opset} is newer than {profile.opset}; export with opset {profile.opset}"
        yield LintFinding("opset", "", message, "error")


def _operators(model: onnx.ModelProto, profile: DeviceProfile) -> Iterator[LintFinding]:
    forbidden, discouraged = dict(profile.forbidden_ops), dict(profile.discouraged_ops)
    for node in model.graph.node:
        op = node.op_type
        if op in forbidden:
            yield LintFinding("forbidden-op", node.name, f"{op} cannot run: {forbidden[op]}", "error")
        if op in discouraged:
            yield LintFinding("discouraged-op", node.name, f"{op}: {discouraged[op]}", "warning")
        if op in _QDQ and not profile.allow_qdq:
            message = f"{op}: there is no INT8 on this target and such graphs fail to build; export float weights"
            yield LintFinding("quantized", node.name, message, "error")
        if profile.runtime != "tensorrt":
            continue
        if node.domain not in ("", "ai.onnx"):
            message = f"{op} belongs to {node.domain}, which needs a plugin; use standard operators"
            yield LintFinding("custom-domain", node.name, message, "error")
        if op == "MaxPool" and len([name for name in node.output if name]) > 1:
            message = "MaxPool with the Indices output cannot run; do not return indices"
            yield LintFinding("forbidden-op", node.name, message, "error")
        if op == "Einsum" and (reason := _einsum_trouble(str(attributes(node).get("equation", "")))):
            yield LintFinding("einsum", node.name, f"Einsum with {reason} cannot run; write it as MatMul", "error")
        if op in {"If", "Loop", "Scan"}:
            message = f"{op}: control flow is fragile there and its inside is not checked; make the network static"
            yield LintFinding("control-flow", node.name, message, "warning")
        if op == "BatchNormalization":
            message = "BatchNormalization is not folded into a convolution; re-parameterise the network before export"
            yield LintFinding("unfolded-bn", node.name, message, "info")


def _einsum_trouble(equation: str) -> str:
    left = equation.replace(" ", "").split("->")[0]
    if "..." in left:
        return "an ellipsis"
    if any(len(set(term)) < len(term) for term in left.split(",")):
        return "a repeated index (a diagonal)"
    return ""


def _resizes(model: onnx.ModelProto, profile: DeviceProfile) -> Iterator[LintFinding]:
    for node in (node for node in model.graph.node if node.op_type in ("Resize", "Upsample")):
        values = attributes(node)
        mode = str(values.get("mode", "nearest"))
        coordinates = str(values.get("coordinate_transformation_mode", "half_pixel"))
        if profile.resize_modes is not None and mode not in profile.resize_modes:
            message = f"Resize mode {mode} cannot run; use {' or '.join(profile.resize_modes)}"
            yield LintFinding("resize-mode", node.name, message, "error")
        if profile.resize_coordinates is not None and coordinates not in profile.resize_coordinates:
            message = f"Resize coordinates {coordinates} cannot run; use {', '.join(profile.resize_coordinates)}"
            yield LintFinding("resize-coordinates", node.name, message, "error")


def _shapes(model: onnx.ModelProto, profile: DeviceProfile) -> Iterator[LintFinding]:
    if not profile.static_shapes:
        return
    constants = constant_names(model.graph)
    for value in model.graph.input:
        if value.name not in constants and not all(tensor_shape(value)):
            message = f"input {value.name} has a dynamic shape; export with fixed batch and resolution"
            yield LintFinding("dynamic-shape", value.name, message, "error")
    for node in model.graph.node:
        if node.op_type in {"Shape", "Size"}:
            message = f"{node.op_type}: a shape is computed at run time; simplify the graph (onnxslim) before use"
            yield LintFinding("shape-arithmetic", node.name, message, "warning")


def _constants(model: onnx.ModelProto, profile: DeviceProfile) -> Iterator[LintFinding]:
    if not profile.constant_parameters:
        return
    constants = constant_names(model.graph)
    for node in model.graph.node:
        for position in _CONSTANT_INPUTS.get(node.op_type, ()):
            name = node.input[position] if position < len(node.input) else ""
            if name and name not in constants:
                message = f"{node.op_type} takes {name} as a computed tensor; it must be a constant"
                yield LintFinding("non-constant", node.name, message, "error")


def _types(model: onnx.ModelProto, profile: DeviceProfile) -> Iterator[LintFinding]:
    if profile.runtime != "tensorrt":
        return
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type.elem_type
        if kind not in _IO_TYPES:
            message = f"{value.name} is {TensorProto.DataType.Name(kind)}; inputs and outputs are float or int32 there"
            yield LintFinding("io-type", value.name, message, "error")
    for node in model.graph.node:
        if node.op_type == "Cast" and attributes(node).get("to") in (TensorProto.DOUBLE, TensorProto.UINT8):
            yield LintFinding("cast", node.name, "Cast to double or uint8 cannot run; keep float32", "error")
    int64 = 0
    for name, tensor in _constant_tensors(model.graph):
        if tensor.data_type == TensorProto.DOUBLE:
            yield LintFinding("double", name, f"{name} is float64; keep the network in float32", "error")
            continue
        array = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.INT64:
            int64 += 1
            # PyTorch exports an open end of a slice as 2**63 - 1, which the importer clamps
            beyond = array[(np.abs(array.astype(np.float64)) > 2**31 - 1) & (array < 2**62)]
            if beyond.size:
                yield LintFinding("int64", name, f"{name} holds {beyond[0]}, beyond int32", "error")
        elif "fp16" in profile.precisions and tensor.data_type == TensorProto.FLOAT and array.size:
            largest = float(np.abs(array).max())
            # the bounds of a Clip are often the limits of float32
            if not math.isfinite(largest) or (largest > _FP16_MAX and array.size > 1):
                message = f"{name} holds {largest:.3g}, beyond fp16's {_FP16_MAX:.0f}; build this one in fp32"
                yield LintFinding("fp16-range", name, message, "warning")
    if int64:
        yield LintFinding("int64", "", f"{int64} int64 constants are cast to int32 (harmless)", "info")


def _constant_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        value = attributes(node).get("value") if node.op_type == "Constant" else None
        if isinstance(value, TensorProto):
            yield node.output[0], value


def _memory(model: onnx.ModelProto, profile: DeviceProfile) -> Iterator[LintFinding]:
    if profile.max_memory_mb is None:
        return
    need_mb = peak_memory_mb(model)
    if need_mb > profile.max_memory_mb:
        message = f"weights and live tensors take {need_mb:.0f} MB of {profile.max_memory_mb} MB; lower the resolution"
        yield LintFinding("memory", "", message, "error")


def peak_memory_mb(model: onnx.ModelProto) -> float:
    """Peak memory in MB (1e6 bytes): weights plus the largest sum of live tensors, float32, nodes in file order."""
    weights = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    shapes = value_shapes(model)
    constants = constant_names(model.graph)
    last_use = {name: index for index, node in enumerate(model.graph.node) for name in node.input}
    keep = {value.name for value in model.graph.output}
    alive = {value.name: _elements(shapes, value.name) for value in model.graph.input if value.name not in constants}
    peak = 0
    for index, node in enumerate(model.graph.node):
        alive.update({name: _elements(shapes, name) for name in node.output if name and name not in constants})
        peak = max(peak, sum(alive.values()))
        for name in list(alive):
            if name not in keep and last_use.get(name, -1) <= index:
                del alive[name]
    return float(weights + peak) * 4 / 1e6


def _elements(shapes: dict[str, tuple[int | None, ...]], name: str) -> int:
    return math.prod(size or 1 for size in shapes.get(name, ()))
