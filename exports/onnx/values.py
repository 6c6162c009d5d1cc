"""Values of an ONNX graph while it is read: type, shape, and contents where they are small and known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from exports.onnx.macs import Shape

OpenShape = tuple[int | None, ...]
Array = NDArray[Any]

VALUE_LIMIT = 1 << 16
"""Elements of a value that is computed while reading; larger ones keep their shape only."""
_SEEN_LIMIT = 1 << 12
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
_RANK_LIMIT = 64
_RANK_GIVEN_BY = {
    "Reshape": 1,
    "Expand": 1,
    "ConstantOfShape": 0,
    "Tile": 1,
    "Resize": 3,
    "Upsample": 1,
    "Squeeze": 1,
    "Unsqueeze": 1,
}
"""Operators to the input whose length is the rank of the output, which onnx would build without asking."""
_NEVER_LARGER = frozenset(
    {"Concat", "Identity", "Unsqueeze", "Squeeze", "NonZero", "Compress", "Unique", "Slice", "TopK"}
)
EVALUATION_ERRORS = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    NameError,
    ImportError,
    MemoryError,
)
"""Errors that onnx's reference implementation raises for an operator that it cannot compute."""


@dataclass(frozen=True)
class Value:
    """One tensor or sequence.

    Attributes:
        name: unique within the network.
        kind: element type, as in ``TensorProto.DataType``.
        shape: sizes; of a sequence, those of its first element.
        constant: known before the network runs.
        data: contents, where they are known and small.
        items: elements of a sequence; None for a tensor.
    """

    name: str
    kind: int
    shape: Shape
    constant: bool = False
    data: Array | None = None
    items: tuple[Value, ...] | None = None

    def type_proto(self) -> onnx.TypeProto:
        """Its type, for onnx's shape inference."""
        tensor = onnx.helper.make_tensor_type_proto(self.kind, self.shape)
        return tensor if self.items is None else onnx.helper.make_sequence_type_proto(tensor)

    def scalar(self) -> Any:
        """Its only element; None where it is unknown or has several."""
        return self.data.reshape(-1)[0].item() if self.data is not None and self.data.size == 1 else None


def infer(
    node: onnx.NodeProto, inputs: Sequence[Value | None], opsets: Mapping[str, int]
) -> list[tuple[int, OpenShape | None]] | None:
    """Element type and shape of each output by onnx's own inference; None for an operator that onnx does not know.

    Raises:
        onnx.shape_inference.InferenceError, onnx.checker.ValidationError: the inputs do not fit the operator.
    """
    version = min(opsets.get(node.domain, onnx.defs.onnx_opset_version()), onnx.defs.onnx_opset_version())
    if node.op_type == "Resize" and version in (11, 12):
        version = 13  # which made the region optional, as exporters wrote it before
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None
    types = {name: value.type_proto() for name, value in zip(node.input, inputs, strict=True) if value is not None}
    data = {
        name: numpy_helper.from_array(value.data, name)
        for name, value in zip(node.input, inputs, strict=True)
        if value is not None and value.data is not None and value.data.size <= _SEEN_LIMIT
    }
    place = _RANK_GIVEN_BY.get(node.op_type)
    if (
        place is not None
        and place < len(inputs)
        and (given := inputs[place]) is not None
        and given.shape[:1] > (_RANK_LIMIT,)
    ):
        raise ValueError(f"a tensor of {given.shape[0]} dimensions")
    imports = [onnx.helper.make_opsetid(domain, number) for domain, number in opsets.items()]
    try:
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=imports)
    except onnx.checker.ValidationError:
        # An element type that this version of the operator does not list, such as bfloat16: sizes do not depend on it.
        plain = {name: _as_float(kind) for name, kind in types.items()}
        found = onnx.shape_inference.infer_node_outputs(schema, node, plain, data, opset_imports=imports)
        kind = next((value.kind for value in inputs if value is not None), TensorProto.FLOAT)
        return [(kind, shape) for _, shape in (_open_type(found.get(name)) for name in node.output)]
    return [_open_type(found.get(name)) for name in node.output]


def _as_float(kind: onnx.TypeProto) -> onnx.TypeProto:
    plain = onnx.TypeProto()
    plain.CopyFrom(kind)
    if plain.tensor_type.elem_type not in (TensorProto.INT64, TensorProto.BOOL):
        plain.tensor_type.elem_type = TensorProto.FLOAT
    return plain


def _open_type(proto: onnx.TypeProto | None) -> tuple[int, OpenShape | None]:
    if proto is None:
        return TensorProto.UNDEFINED, None
    tensor = proto.tensor_type if proto.HasField("tensor_type") else proto.sequence_type.elem_type.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)


def open_shape(tensor: onnx.TypeProto.Tensor, named: Mapping[str, int] | None = None) -> OpenShape | None:
    """Declared sizes; None for one that is dynamic, also where it was written as -1 or 0, or for an unknown rank."""
    if not tensor.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.dim_value > 0 else (named or {}).get(dim.dim_param) if dim.dim_param else None
        for dim in tensor.shape.dim
    )


def evaluate(node: onnx.NodeProto, inputs: Sequence[Value | None], opsets: Mapping[str, int]) -> list[Array] | None:
    """Contents of a node's outputs; None where they cannot be told while reading."""
    data = [None if value is None else value.data for value in inputs]
    if node.op_type in _RANDOM or any(value is not None and value.data is None for value in inputs):
        return None
    if sum(item.size for item in data if item is not None) > VALUE_LIMIT:
        return None
    if any(item is not None and item.dtype.kind not in "biuf" for item in data):
        return None
    quick = _QUICK.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    try:
        if not _is_small(node, inputs, opsets):
            return None
        with np.errstate(all="ignore"):
            found = None if quick is None else quick({item.name: item for item in node.attribute}, data)
            results = [found] if found is not None else _reference(node, data, opsets)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, *EVALUATION_ERRORS):
        return None
    if any(not isinstance(item, (np.ndarray, np.generic)) or item.size > VALUE_LIMIT for item in results):
        return None
    return [np.asarray(item) for item in results]


def _is_small(node: onnx.NodeProto, inputs: Sequence[Value | None], opsets: Mapping[str, int]) -> bool:
    """Outputs have few elements; told before they are computed, as a constant may ask for terabytes."""
    shapes = [value.shape for value in inputs if value is not None]
    if node.op_type in _NEVER_LARGER:
        return True
    if node.op_type in _QUICK and node.op_type != "Gather":
        return math.prod(np.broadcast_shapes(*shapes)) <= VALUE_LIMIT
    return all(
        shape is not None and None not in shape and folded_elements(shape) <= VALUE_LIMIT
        for (_, shape), name in zip(infer(node, inputs, opsets) or [], node.output, strict=False)
        if name
    )


def _reference(node: onnx.NodeProto, data: Sequence[Array | None], opsets: Mapping[str, int]) -> list[Any]:
    from onnx.reference import ReferenceEvaluator

    graph = onnx.GraphProto(name="node", node=[node])
    feeds = {name: item for name, item in zip(node.input, data, strict=True) if name}
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in feeds)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    imports = [onnx.helper.make_opsetid(domain, number) for domain, number in opsets.items()]
    model = onnx.ModelProto(ir_version=10, graph=graph, opset_import=imports)
    results = iter(ReferenceEvaluator(model).run(None, feeds))
    return [next(results) if name else np.zeros(0) for name in node.output]


def _concat(attributes: Mapping[str, onnx.AttributeProto], data: Sequence[Any]) -> Array:
    return np.concatenate([np.asarray(item) for item in data], axis=attributes["axis"].i)


def _gather(attributes: Mapping[str, onnx.AttributeProto], data: Sequence[Any]) -> Array:
    axis = attributes["axis"].i if "axis" in attributes else 0
    return np.asarray(np.take(data[0], data[1].astype(np.int64), axis=axis))


def _axes(attributes: Mapping[str, onnx.AttributeProto], data: Sequence[Any]) -> tuple[int, ...] | None:
    if len(data) > 1 and data[1] is not None:
        return tuple(int(axis) for axis in data[1].reshape(-1))
    return tuple(attributes["axes"].ints) if "axes" in attributes else None


def _unsqueeze(attributes: Mapping[str, onnx.AttributeProto], data: Sequence[Any]) -> Array:
    return np.expand_dims(data[0], _axes(attributes, data) or ())


def _squeeze(attributes: Mapping[str, onnx.AttributeProto], data: Sequence[Any]) -> Array:
    return np.asarray(np.squeeze(data[0], _axes(attributes, data)))


def _same_shape(attributes: Mapping[str, onnx.AttributeProto], data: Sequence[Any]) -> Array:
    return np.asarray(data[0])


def _arithmetic(function: Any) -> Any:
    def compute(attributes: Mapping[str, onnx.AttributeProto], data: Sequence[Any]) -> Array | None:
        return None if "broadcast" in attributes else np.asarray(function(data[0], data[1]))

    return compute


_QUICK: dict[str, Any] = {
    "Concat": _concat,
    "Gather": _gather,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Identity": _same_shape,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Equal": _arithmetic(np.equal),
}


def folded_elements(shape: OpenShape | None) -> int:
    """Elements of a shape that is wholly known; 0 where it is not."""
    return 0 if shape is None or None in shape else math.prod(size for size in shape if size is not None)
