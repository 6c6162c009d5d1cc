"""Static check of an ONNX graph against a device profile, in milliseconds instead of after an engine build."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto

from exports.errors import DynamicShapeError, ExportError
from exports.onnx.graph import attributes, node_name, opset_of
from exports.onnx.model_file import ModelFile, read_model
from exports.onnx.static_graph import StaticGraph, static_graph
from exports.onnx.values import open_shape
from exports.profiles import DeviceProfile
from exports.tensorrt_importers import ADVICE, Importer

Severity = Literal["error", "warning", "info"]

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_QUANTIZED = {*_QUANTIZERS, "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
_FP16_MAX = 65504.0
_CHECKED_ELEMENTS = 1 << 26
"""Elements of weights whose values are read; larger models are checked in part."""


@dataclass(frozen=True)
class LintFinding:
    """One problem of a graph on a device.

    Attributes:
        rule: stable identifier, for example ``forbidden-op``.
        node: name of the first node or tensor that has it; empty for the whole model.
        message: the problem, its remedy, and how many further nodes have it.
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
    """Check ``model`` against ``profile``; returns one finding for each cause, errors first.

    For TensorRT an operator runs only if the importer of the target's release registers it, under that release's conditions
    (see ``exports.tensorrt_importers``). Bodies of control flow and local functions are checked too.

    Raises:
        ExportError: the file is missing or is not an ONNX model.
    """
    file = read_model(model)
    findings = [
        *_opset(file.model, profile),
        *_operators(file, profile),
        *_inputs(file.model, profile),
        *_types(file, profile),
        *_whole(file, profile),
    ]
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(_by_cause(findings), key=lambda finding: order[finding.severity])


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


def _by_cause(findings: Sequence[LintFinding]) -> Iterator[LintFinding]:
    """One finding for those of the same rule and message, at the first node; float64 weights explain casts to them."""
    if any(finding.rule == "double" for finding in findings):
        findings = [item for item in findings if item.rule != "cast" or "double" not in item.message]
    first: dict[tuple[str, str], LintFinding] = {}
    count: dict[tuple[str, str], int] = {}
    for finding in findings:
        key = (finding.rule, finding.message)
        first.setdefault(key, finding)
        count[key] = count.get(key, 0) + 1
    for key, finding in first.items():
        further = f" ({count[key]} nodes)" if count[key] > 1 else ""
        yield replace(finding, message=finding.message + further)


def _opset(model: onnx.ModelProto, profile: DeviceProfile) -> Iterator[LintFinding]:
    opset = opset_of(model)
    if profile.importer is not None and opset > profile.opset:
        message = f"opset {opset} is newer than {profile.opset}; export with opset {profile.opset}"
        yield LintFinding("opset", "", message, "error")


@dataclass(frozen=True)
class _Scope:
    """Names that the nodes of one graph see.

    Attributes:
        computed: values that the network computes or is fed.
        stored: values that the file stores.
        known: values that follow from constants and static shapes.
        tensors: stored tensors by name.
    """

    computed: set[str]
    stored: set[str]
    known: set[str]
    tensors: dict[str, TensorProto]


@dataclass(frozen=True)
class _Place:
    """A node, its name and what it sees."""

    node: onnx.NodeProto
    name: str
    scope: _Scope


def _nodes(
    nodes: Sequence[onnx.NodeProto], tensors: Sequence[TensorProto], inputs: Sequence[str], outer: _Scope
) -> Iterator[_Place]:
    """Every node, bodies of control flow included."""
    scope = _Scope(outer.computed | set(inputs), set(outer.stored), set(outer.known), dict(outer.tensors))
    scope.tensors.update({tensor.name: tensor for tensor in tensors})
    scope.stored.update(scope.tensors)
    scope.known.update(scope.tensors)
    for index, node in enumerate(nodes):
        read = [name for name in node.input if name]
        if node.op_type == "Constant":
            scope.stored.update(node.output)
            scope.tensors.update(
                {name: item.t for item in node.attribute if item.name == "value" for name in node.output}
            )
        elif node.op_type == "Identity" and read and read[0] in scope.stored:
            scope.stored.update(node.output)
        if node.op_type in ("Constant", "Shape", "Size") or (read and all(name in scope.known for name in read)):
            scope.known.update(node.output)
        scope.computed.update(node.output)
        yield _Place(node, node_name(node, index), scope)
        for item in node.attribute:
            for graph in (item.g, *item.graphs) if item.HasField("g") else item.graphs:
                names = [value.name for value in graph.input]
                yield from _nodes(graph.node, graph.initializer, names, scope)


def _all_nodes(model: onnx.ModelProto, *, functions: bool) -> Iterator[_Place]:
    """Every node; those of local functions, whose inputs may be constants of the caller, on request."""
    empty = _Scope(set(), set(), set(), {})
    stored = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in stored]
    yield from _nodes(model.graph.node, model.graph.initializer, names, empty)
    for function in model.functions if functions else ():
        yield from _nodes(function.node, (), (), empty)


def _operators(file: ModelFile, profile: DeviceProfile) -> Iterator[LintFinding]:
    importer = profile.importer
    if importer is None:
        return
    discouraged = dict(profile.discouraged_ops)
    functions = {(item.domain, item.name) for item in file.model.functions}
    for place in _all_nodes(file.model, functions=importer.functions):
        node, name, op = place.node, place.name, place.node.op_type
        refusal = _refusal(node, importer, profile, functions)
        if refusal is not None:
            yield LintFinding(refusal[0], name, refusal[1], "error")
            continue
        if (node.domain, op) in functions:
            continue
        if op in discouraged:
            yield LintFinding("discouraged-op", name, f"{op}: {discouraged[op]}", "warning")
        yield from _conditions(place, importer)
        if op in _QUANTIZERS:
            yield from _zero_point(place, file)
        if op in ("If", "Loop", "Scan"):
            message = f"{op}: control flow is fragile there; make the network static"
            yield LintFinding("control-flow", name, message, "warning")
        if op == "BatchNormalization":
            message = "BatchNormalization is not folded into a convolution; re-parameterise the network before export"
            yield LintFinding("unfolded-bn", name, message, "info")
        if op in ("Shape", "Size") and profile.static_shapes:
            message = f"{op}: a shape is computed at run time; simplify the graph (onnxslim) before use"
            yield LintFinding("shape-arithmetic", name, message, "warning")


def _refusal(
    node: onnx.NodeProto, importer: Importer, profile: DeviceProfile, functions: set[tuple[str, str]]
) -> tuple[str, str] | None:
    """Rule and message for a node without importer."""
    op, release = node.op_type, f"TensorRT {importer.version}"
    if (node.domain, op) in functions:
        message = f"local functions cannot run: {release} does not import them; inline them (onnx.inliner)"
        return None if importer.functions else ("local-function", message)
    if op.endswith("_TRT") or op.startswith("TRT_"):
        return None
    if op in _QUANTIZED and not profile.allow_qdq:
        return "quantized", "there is no INT8 on this target and quantized graphs fail to build; export float weights"
    if node.domain not in ("", "ai.onnx"):
        return "custom-domain", f"{op} belongs to {node.domain}, which needs a plugin; use standard operators"
    if op not in importer.operators:
        if op.startswith(("Sequence", "Optional")):
            fix = "keep tensors apart from each other instead of in sequences"
        else:
            fix = ADVICE.get(op, "use other operators, or write a plugin")
        return "forbidden-op", f"{op} cannot run: {release} has no importer for it; {fix}"
    return None


def _conditions(place: _Place, importer: Importer) -> Iterator[LintFinding]:
    node, scope = place.node, place.scope
    op, values = node.op_type, attributes(node)
    if op == "MaxPool" and len([name for name in node.output if name]) > 1:
        message = "MaxPool with the Indices output cannot run; do not return indices"
        yield LintFinding("forbidden-op", place.name, message, "error")
    if op == "Einsum" and not importer.any_einsum and (reason := _einsum_trouble(str(values.get("equation", "")))):
        yield LintFinding("einsum", place.name, f"Einsum with {reason} cannot run; write it as MatMul", "error")
    if op == "Constant" and {"sparse_value", "value_string", "value_strings"} & set(values):
        yield LintFinding(
            "constant", place.name, "Constant holds a sparse tensor or text; store dense numbers", "error"
        )
    sized = op == "Resize" and bool(_input(node, 3))
    computed = _roles(node, {} if sized else importer.weights.get(op, {}), scope, scope.stored)
    if computed:
        message = (
            f"{op} takes its {computed} as a computed tensor; it must be a constant of the file: simplify the graph"
        )
        yield LintFinding("non-constant", place.name, f"{message} (onnxslim) or export with fixed values", "error")
    unknown = _roles(node, importer.known.get(op, {}), scope, scope.known)
    if unknown:
        message = f"{op} takes its {unknown} from the data; it must be a constant: export with fixed values"
        yield LintFinding("non-constant", place.name, message, "error")
    if op in ("Resize", "Upsample"):
        yield from _resize(place, values, importer)


def _roles(node: onnx.NodeProto, positions: Mapping[int, str], scope: _Scope, settled: set[str]) -> str:
    """Roles of the inputs that the network computes and that are not among the settled values."""
    names = {role: _input(node, position) for position, role in positions.items()}
    return " and ".join(role for role, name in names.items() if name in scope.computed and name not in settled)


def _input(node: onnx.NodeProto, position: int) -> str:
    return str(node.input[position]) if position < len(node.input) else ""


def _einsum_trouble(equation: str) -> str:
    left = equation.replace(" ", "").split("->")[0]
    if "..." in left:
        return "an ellipsis"
    if any(len(set(term)) < len(term) for term in left.split(",")):
        return "a repeated index (a diagonal)"
    return ""


def _resize(place: _Place, values: dict[str, Any], importer: Importer) -> Iterator[LintFinding]:
    node, rules = place.node, importer.resize
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(
        str(values.get("mode", "nearest")), values.get("mode", "nearest")
    )
    if mode not in rules.modes:
        message = f"Resize mode {mode} cannot run; use {' or '.join(rules.modes)}"
        yield LintFinding("resize-mode", place.name, message, "error")
        return
    if len(node.input) < 3 or node.op_type == "Upsample":
        return  # of opset 10 and below, which has no coordinates
    coordinates = str(values.get("coordinate_transformation_mode", "half_pixel"))
    way = "sizes" if _input(node, 3) else "scales"
    allowed = rules.by.get((way, str(mode)), rules.coordinates)
    if coordinates not in allowed:
        by = f" by {way} in mode {mode}" if (way, mode) in rules.by else ""
        message = f"Resize coordinates {coordinates}{by} cannot run; use {', '.join(allowed)}"
        yield LintFinding("resize-coordinates", place.name, message, "error")
        return
    rounding = str(values.get("nearest_mode", "round_prefer_floor"))
    if mode == "nearest" and rules.nearest_modes is not None and rounding not in rules.nearest_modes:
        message = f"Resize nearest_mode {rounding} cannot run; use {' or '.join(rules.nearest_modes)}"
        yield LintFinding("resize-nearest", place.name, message, "error")
    if coordinates == "tf_half_pixel_for_nn" and rounding != "round_prefer_floor":
        message = (
            f"Resize tf_half_pixel_for_nn is rounded by round_prefer_floor there, not by {rounding}; set nearest_mode"
        )
        yield LintFinding("resize-nearest", place.name, message, "warning")


def _zero_point(place: _Place, file: ModelFile) -> Iterator[LintFinding]:
    tensor = place.scope.tensors.get(_input(place.node, 2))
    if tensor is None:
        return
    values = file.read(tensor)
    if tensor.data_type == TensorProto.UINT8 or (values is not None and bool(np.any(values))):
        message = (
            "quantization is symmetric int8 there: a zero point is not 0 or is uint8; quantize with zero points of 0"
        )
        yield LintFinding("zero-point", place.name, message, "error")


def _inputs(model: onnx.ModelProto, profile: DeviceProfile) -> Iterator[LintFinding]:
    if not profile.static_shapes:
        return
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        shape = open_shape(value.type.tensor_type)
        if value.name not in stored and (shape is None or None in shape):
            message = f"input {value.name} has a dynamic shape; export with fixed batch and resolution"
            yield LintFinding("dynamic-shape", value.name, message, "error")


def _types(file: ModelFile, profile: DeviceProfile) -> Iterator[LintFinding]:
    importer = profile.importer
    if importer is None:
        return
    graph = file.model.graph
    stored = {tensor.name for tensor in graph.initializer}
    for value in (*graph.input, *graph.output):
        if value.name in stored or not value.type.HasField("tensor_type"):
            continue
        kind = _type_name(value.type.tensor_type.elem_type)
        if kind not in importer.types and kind != "UNDEFINED":
            message = f"{value.name} is {kind}; inputs and outputs are float or int32 there"
            yield LintFinding("io-type", value.name, message, "error")
    for place in _all_nodes(file.model, functions=importer.functions):
        kind = _type_name(int(attributes(place.node).get("to", 0))) if place.node.op_type == "Cast" else ""
        if kind in importer.casts:
            yield LintFinding("cast", place.name, f"Cast to {kind.lower()} cannot run; keep float32", "error")
    yield from _constant_values(file, profile)


def _type_name(kind: int) -> str:
    return next((str(name) for name, number in TensorProto.DataType.items() if number == kind), f"type {kind}")


def _constant_values(file: ModelFile, profile: DeviceProfile) -> Iterator[LintFinding]:
    int64, room = 0, _CHECKED_ELEMENTS
    for name, tensor in _constant_tensors(file.model):
        if tensor.data_type == TensorProto.DOUBLE:
            message = "constants are float64; keep the network in float32"
            yield LintFinding("double", name, message, "error")
            continue
        if tensor.data_type not in (TensorProto.INT64, TensorProto.FLOAT):
            continue
        int64 += tensor.data_type == TensorProto.INT64
        elements = math.prod(tensor.dims)
        if elements > room:
            message = (
                f"weights beyond {_CHECKED_ELEMENTS >> 20} million were not checked for values that fp16 cannot hold"
            )
            yield LintFinding("unchecked-weights", "", message, "info")
            continue
        room -= elements
        array = file.read(tensor)
        if array is None or not array.size:
            continue
        if tensor.data_type == TensorProto.INT64:
            # PyTorch exports an open end of a slice as 2**63 - 1, which the importer clamps
            beyond = array[(np.abs(array.astype(np.float64)) > 2**31 - 1) & (array < 2**62)]
            if beyond.size and profile.importer is not None and profile.importer.version != "10":
                yield LintFinding("int64", name, f"{name} holds {beyond[0]}, beyond int32", "error")
        elif "fp16" in profile.precisions:
            largest = float(np.abs(array).max())
            # the bounds of a Clip are often the limits of float32
            if not math.isfinite(largest) or (largest > _FP16_MAX and array.size > 1):
                message = f"{name} holds {largest:.3g}, beyond fp16's {_FP16_MAX:.0f}; build this one in fp32"
                yield LintFinding("fp16-range", name, message, "warning")
    if int64:
        yield LintFinding("int64", "", f"{int64} int64 constants are cast to int32 (harmless)", "info")


def _constant_tensors(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in model.graph.initializer:
        yield tensor.name, tensor
    for place in _all_nodes(model, functions=True):
        if place.node.op_type == "Constant":
            yield from ((place.name, item.t) for item in place.node.attribute if item.name == "value")


def _whole(file: ModelFile, profile: DeviceProfile) -> Iterator[LintFinding]:
    """Findings on the graph as a whole: that it is one, and that it fits into memory."""
    try:
        graph = static_graph(file)
    except DynamicShapeError:
        return
    except ExportError as error:
        yield LintFinding("invalid-graph", "", str(error), "error")
        return
    if profile.max_memory_mb is None:
        return
    need_mb = _peak_mb(file.model, graph)
    if need_mb > profile.max_memory_mb:
        message = f"weights and live tensors take {need_mb:.0f} MB of {profile.max_memory_mb} MB; lower the resolution"
        yield LintFinding("memory", "", message, "error")


def peak_memory_mb(model: onnx.ModelProto) -> float:
    """Peak memory in MB (1e6 bytes): weights plus the largest sum of live tensors, float32, nodes in file order.

    Raises:
        ExportError: the model is no valid graph or has dynamic shapes.
    """
    return _peak_mb(model, static_graph(model))


def _peak_mb(model: onnx.ModelProto, graph: StaticGraph) -> float:
    weights = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    keep = set(graph.results)
    made = {name for node in graph.nodes for name in node.outputs}
    alive = {name for name in last_use if name and name not in made and name not in graph.constants}
    held = sum(math.prod(graph.shapes[name]) for name in alive)
    peak = 0
    for index, node in enumerate(graph.nodes):
        fresh = {name for name in node.outputs if name and name not in alive}
        alive |= fresh
        held += sum(math.prod(graph.shapes[name]) for name in fresh)
        peak = max(peak, held)
        done = {name for name in (*node.inputs, *fresh) if name in alive and name not in keep}
        for name in done:
            if last_use.get(name, -1) <= index:
                alive.discard(name)
                held -= math.prod(graph.shapes[name])
    return float(weights + peak) * 4 / 1e6
