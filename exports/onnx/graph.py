"""Reading of ONNX graphs: shapes, constants, multiply-accumulates."""

from __future__ import annotations

import math
from typing import Any

import onnx

from exports.onnx.macs import Shape, node_macs


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


def constant_shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Shape of every tensor whose value is known before the network runs: initializers and results of Constant nodes."""
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            value = attributes(node).get("value")
            shapes[node.output[0]] = tuple(value.dims) if isinstance(value, onnx.TensorProto) else ()
    return shapes


def node_name(node: onnx.NodeProto, index: int) -> str:
    """Name of the ``index``-th node of a graph; names are optional in ONNX."""
    return node.name or f"{node.op_type}_{index}"


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as plain values; strings decoded."""
    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in values.items()
        if value is not None
    }


def count_graph_macs(model: onnx.ModelProto) -> int:
    """Count the multiply-accumulates of the graph's own nodes, each from its shapes; see `exports.onnx.macs`."""
    shapes = {name: shape for name, shape in value_shapes(model).items() if None not in shape}
    return sum(
        node_macs(
            node.op_type,
            attributes(node),
            [shapes.get(name) for name in node.input],  # type: ignore[misc]
            [shapes.get(name) for name in node.output],  # type: ignore[misc]
        )
        for node in model.graph.node
    )


def count_graph_params(model: onnx.ModelProto) -> int:
    """Number of floating-point weights stored in the graph."""
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    )
