"""Record of an ONNX graph that is read: operators that run, and the shape and type of every tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import TensorProto

from exports.errors import ExportError
from exports.onnx.macs import NEEDED_INPUTS, Shape, node_macs
from exports.onnx.model_file import ModelFile, sparse_values
from exports.onnx.values import VALUE_LIMIT, Value

NODE_LIMIT = 200_000
"""Operators of one run, loops unrolled."""
DEPTH_LIMIT = 64
STANDARD = ("", "ai.onnx")
"""Names of the standard domain."""


@dataclass(frozen=True)
class StaticNode:
    """One operator that runs.

    Attributes:
        op: its type.
        domain: "" for the standard one.
        name: unique in the network.
        inputs, outputs: ids of tensors; "" for one that is left out.
        attributes: plain values.
        macs: multiply-accumulates.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    macs: int = 0


@dataclass
class Recorder:
    """State of one reading.

    Attributes:
        file: the model.
        nodes, shapes, kinds, constants, notes: as in ``StaticGraph``.
        dims: sizes of the file's named dimensions.
        functions: local functions by domain, name and overload.
        steps: operators read so far.
    """

    file: ModelFile
    nodes: list[StaticNode] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    notes: dict[str, None] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)
    functions: dict[tuple[str, str, str], onnx.FunctionProto] = field(default_factory=dict)
    steps: int = 0

    def _invalid(self, what: str) -> ExportError:
        """Error for a graph that breaks ONNX's rules."""
        return ExportError(f"{self.file.source} is no valid graph: {what}. Export it again.")

    def _value(self, name: str, kind: int, shape: Shape, *, constant: bool = False, data: Any = None) -> Value:
        self.shapes[name] = shape
        self.kinds[name] = kind
        if constant:
            self.constants.add(name)
        else:
            self.constants.discard(name)
        return Value(name, kind, shape, constant, data)

    def _stored(self, name: str, tensor: TensorProto) -> Value:
        shape = tuple(int(size) for size in tensor.dims)
        if any(size < 0 for size in shape):
            raise ExportError(f"{self.file.source} is damaged: {tensor.name!r} has a size below 0. Export it again.")
        data = self.file.read(tensor) if math.prod(shape) <= VALUE_LIMIT else None
        if data is not None and data.shape != shape:
            data = None
        return self._value(name, tensor.data_type, shape, constant=True, data=data)

    def _sparse(self, name: str, sparse: onnx.SparseTensorProto) -> Value:
        shape = tuple(int(size) for size in sparse.dims)
        return self._value(name, sparse.values.data_type, shape, constant=True, data=sparse_values(sparse))

    def _emit(
        self,
        node: onnx.NodeProto,
        name: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[Value | None],
        values: Mapping[str, Any],
    ) -> None:
        if len(self.nodes) >= NODE_LIMIT:
            raise ExportError(
                f"{self.file.source} runs over {NODE_LIMIT} operators; its loops are too long to be counted."
            )
        domain = "" if node.domain in STANDARD else node.domain
        ids = tuple(item.name for value in inputs for item in (tensors_of(value) if value is not None else (_ABSENT,)))
        op = f"com.microsoft.{node.op_type}" if node.op_type in ("Attention", "QAttention") and domain else node.op_type
        if op in NEEDED_INPUTS and any(index >= len(inputs) or inputs[index] is None for index in NEEDED_INPUTS[op]):
            raise self._invalid(f"{name} ({op}) lacks an input")
        macs = node_macs(
            op,
            values,
            [None if value is None else value.shape for value in inputs],
            [None if value is None else value.shape for value in outputs],
        )
        names = tuple("" if value is None else value.name for value in outputs)
        self.nodes.append(StaticNode(node.op_type, domain, name, ids, names, values, macs))


_ABSENT = Value("", TensorProto.FLOAT, ())


def tensors_of(value: Value) -> Iterable[Value]:
    """The tensors of a sequence, or the tensor itself."""
    return (value,) if value.items is None else tuple(item for part in value.items for item in tensors_of(part))
