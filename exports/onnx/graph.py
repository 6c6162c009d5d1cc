"""Reading of ONNX graphs: shapes, constants, multiply-accumulates."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from exports.errors import ExportError

Shape = tuple[int, ...]


def load_graph(model: onnx.ModelProto | Path) -> onnx.ModelProto:
    """Read an ONNX file; a model that is loaded already is returned as it is.

    Raises:
        ExportError: the file is missing or is not an ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        return model
    try:
        return onnx.load(model)
    except FileNotFoundError as error:
        raise ExportError(
            f"cannot read the ONNX model: there is no ONNX file {model}; give the path of an exported model.onnx."
        ) from error
    except (DecodeError, ValueError) as error:
        raise ExportError(f"{model} is not a readable ONNX model ({error}). Export it again.") from error
    except OSError as error:
        raise ExportError(
            f"cannot read the ONNX model {model}: {error.strerror or error}. Make it readable, or export it again."
        ) from error


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set of ``model``."""
    return int(next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0))


def tensor_shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Shape of a graph value; a symbolic or unknown dimension is None."""
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)


def value_shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes of all named tensors, weights included, by shape inference."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: tensor_shape(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in inferred.initializer})
    return shapes


def declared_shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Shape of every graph value that declares a complete one, without inference; constants are left out."""
    return {
        value.name: tuple(int(dim.dim_value) for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape") and None not in tensor_shape(value)
    }


def constant_shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Shape of every tensor whose value is known before the network runs: initializers and results of Constant nodes."""
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            value = attributes(node).get("value")
            shapes[node.output[0]] = tuple(value.dims) if isinstance(value, onnx.TensorProto) else ()
    return shapes


def constant_names(graph: onnx.GraphProto) -> set[str]:
    """Names of tensors whose value is known before the network runs."""
    return set(constant_shapes(graph))


def node_name(node: onnx.NodeProto, index: int) -> str:
    """Name of the ``index``-th node of a graph; names are optional in ONNX."""
    return node.name or f"{node.op_type}_{index}"


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """A node's attributes as plain values; strings decoded."""
    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def count_graph_macs(model: onnx.ModelProto) -> int:
    """Count the multiply-accumulates of convolutions, transposed convolutions, and matrix products.

    Convolution: output elements x weights of one filter. Element-wise operations count as zero, as in fvcore and
    ``torch.utils.flop_counter``.
    """
    shapes = value_shapes(model)
    total = 0
    for node in model.graph.node:
        if node.op_type not in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
            continue
        output, operand = shapes.get(node.output[0]), shapes.get(node.input[1])
        source = shapes.get(node.input[0])
        if output is None or operand is None or source is None or None in (*output, *operand, *source):
            continue
        if node.op_type == "Conv":
            each, elements = math.prod(operand[1:]), math.prod(output)  # type: ignore[arg-type]
        elif node.op_type == "ConvTranspose":
            each, elements = math.prod(operand[1:]), math.prod(source)  # type: ignore[arg-type]
        else:
            transposed = bool(attributes(node).get("transA", 0))
            each, elements = source[-2 if transposed else -1], math.prod(output)  # type: ignore[arg-type,assignment]
        total += each * elements
    return total


def count_graph_params(model: onnx.ModelProto) -> int:
    """Number of floating-point weights stored in the graph."""
    return sum(
        int(numpy_helper.to_array(tensor).size)
        for tensor in model.graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    )
