"""An ONNX model as the operators that run, with the shape of every tensor.

The reader walks the graph once, as the runtime would: it infers each operator's shapes from its inputs, computes small constants
(arithmetic on shapes among them), takes the branch of an If whose condition is known, repeats the body of a Loop or Scan, and
inlines local functions. What only the data decides is counted with its upper bound, and noted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from exports.errors import ExportError
from exports.onnx.control_flow import ControlFlowReader
from exports.onnx.graph import node_name, opset_of
from exports.onnx.graph_inputs import bind_inputs
from exports.onnx.macs import Shape
from exports.onnx.model_file import ModelFile, read_model
from exports.onnx.operators import OperatorReader
from exports.onnx.recorder import DEPTH_LIMIT, STANDARD, StaticNode, tensors_of
from exports.onnx.values import EVALUATION_ERRORS, Value, folded_elements


@dataclass(frozen=True)
class StaticGraph:
    """The operators of one run, in order.

    Attributes:
        nodes: those that run; what is known beforehand is left out.
        shapes: shape of every tensor by id, constants included.
        kinds: element type of every tensor, as in ``TensorProto.DataType``.
        constants: ids of what is known before the network runs.
        results: ids of what the network returns.
        notes: sentences on what was assumed.
        source: name of the file for messages.
    """

    nodes: tuple[StaticNode, ...]
    shapes: Mapping[str, Shape]
    kinds: Mapping[str, int]
    constants: frozenset[str]
    results: tuple[str, ...]
    notes: tuple[str, ...]
    source: str

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(node.macs for node in self.nodes)


def static_graph(model: onnx.ModelProto | Path | ModelFile, inputs: Mapping[str, Shape] | None = None) -> StaticGraph:
    """Read a model as the operators that run.

    Args:
        model: the file, a model in memory, or a file that was read.
        inputs: sizes of inputs whose size is dynamic, by name.

    Raises:
        ExportError: the file cannot be read, is not a valid graph, or a size is neither in the file nor given.
    """
    file = model if isinstance(model, ModelFile) else read_model(model)
    return _Reader(file).read(inputs or {})


class _Reader(OperatorReader, ControlFlowReader):
    """Reader of a whole model."""

    def read(self, given: Mapping[str, Shape]) -> StaticGraph:
        model = self.file.model
        if not model.graph.node:
            raise ExportError(f"{self.file.source} holds no operation that takes time. Give an exported network.")
        self.functions = {(item.domain, item.name, item.overload): item for item in model.functions}
        opsets = self._opsets(model)
        bound = bind_inputs(model.graph, given, self.file.source)
        self.dims.update(bound.dims)
        self.notes.update(dict.fromkeys(bound.notes))
        env: dict[str, Value] = {}
        for name, (kind, shape) in bound.shapes.items():
            env[name] = self._value(name, kind, shape)
        results = self._graph(model.graph, env, "", opsets, 0)
        names = tuple(item.name for value in results for item in tensors_of(value))
        return StaticGraph(
            tuple(self.nodes), self.shapes, self.kinds, frozenset(self.constants), names, tuple(self.notes), self.file.source
        )  # fmt: skip

    def _opsets(self, model: onnx.ModelProto) -> dict[str, int]:
        opsets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version
                  for entry in model.opset_import}  # fmt: skip
        if "" not in opsets:
            standard = any(node.domain in STANDARD for node in model.graph.node)
            if standard and model.ir_version >= 3:
                raise ExportError(
                    f"{self.file.source} does not say which operator set it uses (opset_import is empty). Export it again, "
                    "or set the opset with onnx.helper.make_opsetid."
                )
            opsets[""] = 1 if model.ir_version < 3 else onnx.defs.onnx_opset_version()
        newest = onnx.defs.onnx_opset_version()
        if opset_of(model) > newest:
            self.notes[
                f"opset {opset_of(model)} is newer than {newest}, the newest known here, and is read like it"
            ] = None
        return opsets

    def _graph(
        self, graph: onnx.GraphProto, env: dict[str, Value], scope: str, opsets: Mapping[str, int], depth: int
    ) -> list[Value]:
        """Read a graph's nodes; ``env`` has its inputs and what the graphs around it hold."""
        if depth > DEPTH_LIMIT:
            raise ExportError(f"{self.file.source} nests its graphs over {DEPTH_LIMIT} deep. Export it again.")
        for tensor in graph.initializer:
            env[tensor.name] = self._stored(scope + tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            env[sparse.values.name] = self._sparse(scope + sparse.values.name, sparse)
        declared = {item.name: item.type for item in (*graph.value_info, *graph.output)}
        self._nodes(graph.node, env, scope, opsets, depth, declared)
        missing = next((item.name for item in graph.output if item.name not in env), None)
        if missing is not None:
            raise ExportError(f"{self.file.source} returns {missing!r}, which no operator computes. Export it again.")
        return [env[item.name] for item in graph.output]

    def _nodes(
        self,
        nodes: Sequence[onnx.NodeProto],
        env: dict[str, Value],
        scope: str,
        opsets: Mapping[str, int],
        depth: int,
        declared: Mapping[str, onnx.TypeProto],
    ) -> None:
        for index, node in _ordered(nodes, env):
            self.steps += 1
            if node.domain == "ai.onnx":
                node = _renamed(node)
            name = scope + node_name(node, index)
            if not any(node.output):
                continue
            unknown = next((item for item in node.input if item and item not in env), None)
            if unknown is not None:
                raise self._invalid(f"{name} reads {unknown!r}, which nothing computes")
            inputs = [env[item] if item else None for item in node.input]
            try:
                outputs = self._node(node, name, inputs, env, scope, opsets, depth, declared)
            except EVALUATION_ERRORS as error:  # a node without what its operator needs, in any of its many forms
                reason = " ".join(str(error).split())[:100]
                raise self._invalid(f"{name} ({node.op_type}) is malformed ({reason})") from error
            env.update(
                {key: value for key, value in zip(node.output, outputs, strict=False) if key and value is not None}
            )

    def _node(
        self,
        node: onnx.NodeProto,
        name: str,
        inputs: Sequence[Value | None],
        env: Mapping[str, Value],
        scope: str,
        opsets: Mapping[str, int],
        depth: int,
        declared: Mapping[str, onnx.TypeProto],
    ) -> Sequence[Value | None]:
        function = self.functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            return self._call(function, node, name, inputs, depth)
        if node.domain in STANDARD:
            if node.op_type == "Constant":
                return [self._constant(node, scope)]
            if node.op_type in ("If", "Loop", "Scan", "SequenceMap"):
                return self._control(node, name, inputs, env, opsets, depth)
            handled = self._sequence(node, name, inputs, scope)
            if handled is not None:
                return handled
        return self._operator(node, name, inputs, scope, opsets, declared)


def _renamed(node: onnx.NodeProto) -> onnx.NodeProto:
    """A copy of a node of the standard domain under the name by which onnx knows that."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.domain = ""
    return made


def _ordered(nodes: Sequence[onnx.NodeProto], env: Mapping[str, Value]) -> list[tuple[int, onnx.NodeProto]]:
    """Nodes with their places, in an order in which they can run: the given one where it is."""
    made = set(env)
    for node in nodes:
        if any(name and name not in made for name in node.input):
            break
        made.update(node.output)
    else:
        return list(enumerate(nodes))
    made, waiting = set(env), list(enumerate(nodes))
    ordered: list[tuple[int, onnx.NodeProto]] = []
    while waiting:
        ready = [(index, node) for index, node in waiting if all(not name or name in made for name in node.input)]
        if not ready:
            return ordered + waiting
        ordered += ready
        made.update(name for _, node in ready for name in node.output)
        taken = {index for index, _ in ready}
        waiting = [item for item in waiting if item[0] not in taken]
    return ordered


QUANTIZED = frozenset({"QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "QGemm", "QAttention",
                       "MatMulIntegerToFloat", "DynamicQuantizeMatMul"})  # fmt: skip
_PRECISIONS = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
}


def precision_of(graph: StaticGraph) -> str:
    """Precision that most of the work is done in: ``fp32``, ``fp16``, ``bf16``, ``fp64`` or ``int8``.

    A network between QuantizeLinear and DequantizeLinear works in int8; without matrix products its tensors decide.
    """
    rounded = {name for node in graph.nodes if node.op == "DequantizeLinear" for name in node.outputs}
    work: dict[str, int] = {}
    for node in graph.nodes:
        read = [name for name in node.inputs if name]
        if not read or not (node.macs or node.outputs):
            continue
        kind = _PRECISIONS.get(graph.kinds.get(read[0], 0))
        quantized = node.op in QUANTIZED or (node.macs > 0 and any(name in rounded for name in read))
        found = "int8" if quantized else kind
        if found is not None:
            weight = node.macs * 1_000_000 or folded_elements(graph.shapes.get(read[0]))
            work[found] = work.get(found, 0) + weight
    return max(work, key=lambda name: work[name]) if work else "fp32"
