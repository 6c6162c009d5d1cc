"""An ONNX model as the operators that run, with the shape of every tensor.

The reader walks the graph once, as the runtime would: it infers each operator's shapes from its inputs, computes small constants
(arithmetic on shapes among them), takes the branch of an If whose condition is known, repeats the body of a Loop or Scan, and
inlines local functions. What only the data decides is counted with its upper bound, and noted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from exports.errors import DynamicShapeError, ExportError
from exports.onnx import bounds
from exports.onnx.graph import attributes, node_name, opset_of
from exports.onnx.graph_inputs import bind_inputs
from exports.onnx.macs import NEEDED_INPUTS, Shape, node_macs
from exports.onnx.model_file import ModelFile, read_model, sparse_values
from exports.onnx.values import (
    EVALUATION_ERRORS,
    VALUE_LIMIT,
    OpenShape,
    Value,
    evaluate,
    folded_elements,
    infer,
    open_shape,
)

STEP_LIMIT = 20_000
"""Operators that repeated bodies are read as, one by one; beyond, a body is read once and its operators are repeated."""
NODE_LIMIT = 200_000
_DEPTH_LIMIT = 64
_STANDARD = ("", "ai.onnx")


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


@dataclass
class _Reader:
    file: ModelFile
    nodes: list[StaticNode] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    notes: dict[str, None] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)
    functions: dict[tuple[str, str, str], onnx.FunctionProto] = field(default_factory=dict)
    steps: int = 0

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
        names = tuple(item.name for value in results for item in _tensors_of(value))
        return StaticGraph(
            tuple(self.nodes), self.shapes, self.kinds, frozenset(self.constants), names, tuple(self.notes), self.file.source
        )  # fmt: skip

    def _opsets(self, model: onnx.ModelProto) -> dict[str, int]:
        opsets = {entry.domain.replace("ai.onnx", "") if entry.domain == "ai.onnx" else entry.domain: entry.version
                  for entry in model.opset_import}  # fmt: skip
        if "" not in opsets:
            standard = any(node.domain in _STANDARD for node in model.graph.node)
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

    def _graph(
        self, graph: onnx.GraphProto, env: dict[str, Value], scope: str, opsets: Mapping[str, int], depth: int
    ) -> list[Value]:
        """Read a graph's nodes; ``env`` has its inputs and what the graphs around it hold."""
        if depth > _DEPTH_LIMIT:
            raise ExportError(f"{self.file.source} nests its graphs over {_DEPTH_LIMIT} deep. Export it again.")
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
            name = scope + node_name(node, index)
            if not any(node.output):
                continue
            unknown = next((item for item in node.input if item and item not in env), None)
            if unknown is not None:
                raise ExportError(
                    f"{self.file.source} is no valid graph: {name} reads {unknown!r}, which nothing computes. Export it again."
                )
            inputs = [env[item] if item else None for item in node.input]
            try:
                outputs = self._node(node, name, inputs, env, scope, opsets, depth, declared)
            except EVALUATION_ERRORS as error:  # a node without what its operator needs, in any of its many forms
                raise ExportError(
                    f"{self.file.source} is no valid graph: {name} ({node.op_type}) is malformed "
                    f"({' '.join(str(error).split())[:100]}). Export it again."
                ) from error
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
        if node.domain in _STANDARD:
            if node.op_type == "Constant":
                return [self._constant(node, scope)]
            if node.op_type in ("If", "Loop", "Scan", "SequenceMap"):
                return self._control(node, name, inputs, env, opsets, depth)
            handled = self._sequence(node, name, inputs, scope)
            if handled is not None:
                return handled
        return self._operator(node, name, inputs, scope, opsets, declared)

    # -- single operators ---------------------------------------------------------------------------------------------

    def _constant(self, node: onnx.NodeProto, scope: str) -> Value:
        name = scope + node.output[0]
        for item in node.attribute:
            if item.name == "value":
                return self._stored(name, item.t)
            if item.name == "sparse_value":
                return self._sparse(name, item.sparse_tensor)
            kinds = {
                "value_float": np.float32,
                "value_floats": np.float32,
                "value_int": np.int64,
                "value_ints": np.int64,
            }
            if item.name in kinds:
                data = np.asarray(onnx.helper.get_attribute_value(item), kinds[item.name])
                kind = int(onnx.helper.np_dtype_to_tensor_dtype(data.dtype))
                return self._value(name, kind, data.shape, constant=True, data=data)
        strings = next((item.strings for item in node.attribute if item.name == "value_strings"), None)
        shape = () if strings is None else (len(strings),)
        return self._value(name, TensorProto.STRING, shape, constant=True)

    def _operator(
        self,
        node: onnx.NodeProto,
        name: str,
        inputs: Sequence[Value | None],
        scope: str,
        opsets: Mapping[str, int],
        declared: Mapping[str, onnx.TypeProto],
    ) -> list[Value | None]:
        values = attributes(node)
        known = self._known(node, inputs, opsets)
        constant = known is not None or (
            any(item is not None for item in inputs) and all(item is None or item.constant for item in inputs)
        )
        if known is None:
            types = self._types(node, name, values, inputs, opsets, declared)
        else:
            types = [(int(onnx.helper.np_dtype_to_tensor_dtype(item.dtype)), item.shape) for item in known]
        found: list[Value | None] = []
        for index, key in enumerate(node.output):
            if not key or index >= len(types) or types[index] is None:
                found.append(None)
                continue
            kind, shape = types[index]  # type: ignore[misc]
            data = None if known is None else known[index]
            found.append(self._value(scope + key, kind, shape, constant=constant, data=data))
        if not constant:
            self._check_weights(node, name, inputs, values)
            self._emit(node, name, inputs, found, values)
        return found

    def _check_weights(
        self, node: onnx.NodeProto, name: str, inputs: Sequence[Value | None], values: Mapping[str, Any]
    ) -> None:
        """Refuse a convolution whose weights have another number of channels, which onnx's inference accepts."""
        plain = node.op_type in ("Conv", "ConvTranspose") and node.domain in _STANDARD
        if not plain or len(inputs) < 2 or inputs[0] is None or inputs[1] is None:
            return
        source, weights = inputs[0].shape, inputs[1].shape
        if len(source) < 3 or len(weights) != len(source):
            raise ExportError(
                f"{self.file.source} is no valid graph: {name} ({node.op_type}) has no channels. Export it again."
            )
        wanted = weights[0] if node.op_type == "ConvTranspose" else weights[1] * int(values.get("group", 1))
        if source[1] != wanted:
            raise ExportError(
                f"{self.file.source} is no valid graph: {name} ({node.op_type}) does not fit its inputs: its weights take "
                f"{wanted} channels and it reads {source[1]}. Export it again."
            )

    def _known(
        self, node: onnx.NodeProto, inputs: Sequence[Value | None], opsets: Mapping[str, int]
    ) -> list[np.ndarray[Any, Any]] | None:
        """Contents of the outputs where they are small and follow from shapes and constants."""
        if node.domain not in _STANDARD or any(item is not None and item.items is not None for item in inputs):
            return None
        first = inputs[0] if inputs else None
        if node.op_type == "Shape" and first is not None:
            values = attributes(node)
            sizes = first.shape[int(values.get("start", 0)) : values.get("end")]
            return [np.array(sizes, np.int64)]
        if node.op_type == "Size" and first is not None:
            return [np.array(math.prod(first.shape), np.int64)]
        if not inputs:
            return None
        return evaluate(node, inputs, opsets)

    def _types(
        self,
        node: onnx.NodeProto,
        name: str,
        values: Mapping[str, Any],
        inputs: Sequence[Value | None],
        opsets: Mapping[str, int],
        declared: Mapping[str, onnx.TypeProto],
    ) -> list[tuple[int, Shape] | None]:
        known = [item for item in inputs if item is not None]
        kind = known[0].kind if known else TensorProto.FLOAT
        standard = node.domain in _STANDARD or node.domain == "ai.onnx.ml"
        try:
            shapes = None if standard else self._contributed(node, values, inputs, opsets)
            kind = kind if standard else bounds.contributed_kind(node.op_type, inputs, kind)
            inferred: Sequence[tuple[int, OpenShape | None]] | None
            inferred = infer(node, inputs, opsets) if shapes is None else [(kind, shape) for shape in shapes]
            if inferred is None and standard:
                shapes = bounds.contributed(node.op_type, values, inputs)
                inferred = None if shapes is None else [(kind, shape) for shape in shapes]
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, *EVALUATION_ERRORS) as error:
            inferred = self._declared(node, kind, declared)
            if inferred is None:
                reason = " ".join(str(error).split()).removeprefix("[ShapeInferenceError] ")[:200]
                raise ExportError(
                    f"{self.file.source} is no valid graph: {name} ({node.op_type}) does not fit its inputs ({reason}). "
                    "Export it again."
                ) from error
        if inferred is None:
            label = f"{node.domain}.{node.op_type}" if node.domain not in _STANDARD else node.op_type
            self.notes[f"{label} is not a known operator: its work is not known"] = None
        result: list[tuple[int, Shape] | None] = []
        for index, key in enumerate(node.output):
            if not key:
                result.append(None)
                continue
            got = inferred[index] if inferred is not None and index < len(inferred) else (TensorProto.UNDEFINED, None)
            shape = self._closed(got[1], node, values, inputs, index, declared.get(key))
            if shape is None and inferred is None:
                shape = known[0].shape if known else ()
            elif shape is None and index == 0:
                shape = bounds.old_form(node.op_type, values, inputs)
            if shape is None and index > 0:
                result.append(None)
                continue
            if shape is None:
                raise DynamicShapeError(
                    f"{self.file.source} must have static shapes, that of {key!r} is not fixed: {name} ({node.op_type}) takes it "
                    "from the data; export with batch 1 and fixed sizes."
                )
            result.append((got[0] or kind, shape))
        return result

    def _contributed(
        self, node: onnx.NodeProto, values: Mapping[str, Any], inputs: Sequence[Value | None], opsets: Mapping[str, int]
    ) -> list[Shape | None] | None:
        if (node.domain, node.op_type) in bounds.STANDARD_FORM:
            plain = onnx.NodeProto()
            plain.CopyFrom(node)
            plain.op_type, plain.domain = bounds.STANDARD_FORM[node.domain, node.op_type], ""
            allowed = {"kernel_shape", "strides", "pads", "dilations", "group", "auto_pad", "ceil_mode"}
            kept = [item for item in node.attribute if item.name in allowed]
            del plain.attribute[:]
            plain.attribute.extend(kept)
            del plain.input[3:]
            types = infer(plain, inputs[:3], opsets) or []
            return [
                None if shape is None or None in shape else tuple(int(size or 0) for size in shape)
                for _, shape in types
            ]
        return bounds.contributed(node.op_type, values, inputs) if node.domain.startswith("com.microsoft") else None

    def _declared(
        self, node: onnx.NodeProto, kind: int, declared: Mapping[str, onnx.TypeProto]
    ) -> list[tuple[int, OpenShape | None]] | None:
        """Return the shapes declared in the file for the outputs; None without a complete first one."""
        types = [
            (kind, open_shape(declared[key].tensor_type, self.dims) if key in declared else None) for key in node.output
        ]
        return types if types and types[0][1] is not None and None not in types[0][1] else None

    def _closed(
        self,
        shape: OpenShape | None,
        node: onnx.NodeProto,
        values: Mapping[str, Any],
        inputs: Sequence[Value | None],
        output: int,
        declared: onnx.TypeProto | None,
    ) -> Shape | None:
        """Fill the sizes that inference leaves open: by the number of elements, a bound, or what the file declares."""
        if shape is not None and None not in shape:
            return tuple(int(size or 0) for size in shape)
        first = inputs[0] if inputs else None
        if (
            shape is not None
            and node.op_type in ("Reshape", "Flatten")
            and shape.count(None) == 1
            and first is not None
        ):
            rest = math.prod(size for size in shape if size is not None)
            if rest and math.prod(first.shape) % rest == 0:
                return tuple(math.prod(first.shape) // rest if size is None else size for size in shape)
        bound = bounds.largest(node.op_type, values, inputs, output)
        if bound is not None and (shape is None or len(shape) == len(bound)):
            self.notes[f"{node.op_type} keeps as much as the data says: counted with the most it can keep"] = None
            return tuple(
                int(most or 1) if size is None else size for size, most in zip(shape or bound, bound, strict=True)
            )
        stated = open_shape(declared.tensor_type, self.dims) if declared is not None else None
        if stated is None or (shape is not None and len(shape) != len(stated)):
            return None
        merged = [size if size is not None else said for size, said in zip(shape or stated, stated, strict=True)]
        return None if None in merged else tuple(int(size or 0) for size in merged)

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
        domain = "" if node.domain in _STANDARD else node.domain
        ids = tuple(item.name for value in inputs for item in (_tensors_of(value) if value is not None else (_ABSENT,)))
        op = f"com.microsoft.{node.op_type}" if node.op_type in ("Attention", "QAttention") and domain else node.op_type
        if op in NEEDED_INPUTS and any(index >= len(inputs) or inputs[index] is None for index in NEEDED_INPUTS[op]):
            raise ExportError(f"{self.file.source} is no valid graph: {name} ({op}) lacks an input. Export it again.")
        macs = node_macs(
            op,
            values,
            [None if value is None else value.shape for value in inputs],
            [None if value is None else value.shape for value in outputs],
        )
        names = tuple("" if value is None else value.name for value in outputs)
        self.nodes.append(StaticNode(node.op_type, domain, name, ids, names, values, macs))

    # -- sequences and optionals --------------------------------------------------------------------------------------

    def _sequence(
        self, node: onnx.NodeProto, name: str, inputs: Sequence[Value | None], scope: str
    ) -> list[Value | None] | None:
        op = node.op_type
        if not op.startswith(("Sequence", "Optional")) and op not in ("SplitToSequence", "ConcatFromSequence"):
            return None
        values = attributes(node)
        key = scope + node.output[0]
        first = inputs[0] if inputs else None
        if op in ("Optional", "OptionalGetElement"):
            return [first if first is not None else self._value(key, TensorProto.FLOAT, ())]
        if op == "OptionalHasElement":
            return [self._value(key, TensorProto.BOOL, (), constant=True, data=np.array(first is not None))]
        if op == "SequenceEmpty":
            return [Value(key, int(values.get("dtype", TensorProto.FLOAT)), (), True, None, ())]
        if op == "SequenceConstruct":
            return [self._list(key, [item for item in inputs if item is not None])]
        if first is None:
            return None
        items = list(first.items or ())
        if op == "SplitToSequence":
            return [self._split(node, name, first, inputs[1] if len(inputs) > 1 else None, values, key)]
        place = inputs[-1].scalar() if len(inputs) > 1 and inputs[-1] is not None else None
        if op == "SequenceLength":
            return [self._value(key, TensorProto.INT64, (), constant=True, data=np.array(len(items)))]
        if op == "SequenceInsert" and inputs[1] is not None:
            place = None if len(inputs) < 3 else place
            items.insert(len(items) if place is None else int(place), inputs[1])
            return [self._list(key, items)]
        if op == "SequenceErase":
            del items[-1 if place is None or not -len(items) <= place < len(items) else int(place) :][:1]
            return [self._list(key, items[:-1] if place is None else items)]
        if op == "SequenceAt":
            if not items:
                raise ExportError(f"{self.file.source}: {name} reads an element of an empty sequence. Export it again.")
            index = int(place) if place is not None and -len(items) <= place < len(items) else 0
            return [items[index]]
        if op == "ConcatFromSequence":
            return [self._join(node, name, items, values, key)]
        return None

    def _list(self, key: str, items: Sequence[Value]) -> Value:
        first = items[0] if items else None
        shape, kind = ((), TensorProto.FLOAT) if first is None else (first.shape, first.kind)
        return Value(key, kind, shape, all(item.constant for item in items), None, tuple(items))

    def _split(
        self, node: onnx.NodeProto, name: str, source: Value, sizes: Value | None, values: Mapping[str, Any], key: str
    ) -> Value:
        axis = int(values.get("axis", 0)) % max(len(source.shape), 1)
        whole = source.shape[axis] if source.shape else 1
        if whole > NODE_LIMIT:
            raise ExportError(f"{self.file.source}: {name} splits a tensor into too many parts. Export it again.")
        if sizes is not None and sizes.data is not None and sizes.data.ndim:
            parts = [int(size) for size in sizes.data]
        else:
            each = max(int(sizes.scalar() or 1) if sizes is not None else 1, 1)
            parts = [min(each, whole - start) for start in range(0, whole, each)]
        squeezed = sizes is None and not values.get("keepdims", 1)
        shapes = [
            source.shape[:axis] + (() if squeezed else (part,)) + source.shape[axis + 1 :]
            for part in parts[:VALUE_LIMIT]
        ]
        made = [
            self._value(f"{key}/{index}", source.kind, shape, constant=source.constant)
            for index, shape in enumerate(shapes)
        ]
        if not source.constant:
            self._emit(node, name, [source], made, values)
        return self._list(key, made)

    def _join(self, node: onnx.NodeProto, name: str, items: list[Value], values: Mapping[str, Any], key: str) -> Value:
        if not items:
            raise ExportError(f"{self.file.source}: {name} joins an empty sequence. Export it again.")
        shape = list(items[0].shape)
        if values.get("new_axis", 0):
            rank = len(shape) + 1
            shape.insert(int(values["axis"]) % rank, len(items))
        else:
            axis = int(values["axis"]) % max(len(shape), 1)
            shape[axis] = sum(item.shape[axis] for item in items)
        constant = all(item.constant for item in items)
        joined = self._value(key, items[0].kind, tuple(shape), constant=constant)
        if not constant:
            self._emit(node, name, items, [joined], values)
        return joined

    # -- control flow and functions -----------------------------------------------------------------------------------

    def _call(
        self, function: onnx.FunctionProto, node: onnx.NodeProto, name: str, inputs: Sequence[Value | None], depth: int
    ) -> list[Value | None]:
        if depth > _DEPTH_LIMIT:
            raise ExportError(f"{self.file.source} nests its functions over {_DEPTH_LIMIT} deep. Export it again.")
        bound = {item.name: item for item in function.attribute_proto}
        bound.update({item.name: item for item in node.attribute})
        env = {key: value for key, value in zip(function.input, inputs, strict=False) if value is not None}
        absent = set(function.input) - set(env)
        body = [_bound_node(item, bound, absent) for item in function.node]
        opsets = {"" if item.domain == "ai.onnx" else item.domain: item.version for item in function.opset_import}
        declared = {item.name: item.type for item in function.value_info}
        self._nodes(body, env, f"{name}/", opsets, depth + 1, declared)
        return [env.get(key) for key in function.output]

    def _control(
        self,
        node: onnx.NodeProto,
        name: str,
        inputs: Sequence[Value | None],
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> Sequence[Value | None]:
        graphs = {item.name: item.g for item in node.attribute if item.HasField("g")}
        if node.op_type == "If":
            condition = inputs[0].scalar() if inputs and inputs[0] is not None else None
            if condition is not None:
                taken = graphs["then_branch" if condition else "else_branch"]
                return self._graph(taken, dict(env), f"{name}/", opsets, depth + 1)
            return self._dearer_branch(graphs, name, env, opsets, depth)
        body = graphs.get("body")
        if body is None:
            raise ExportError(f"{self.file.source} is no valid graph: {name} has no body. Export it again.")
        if node.op_type == "Loop":
            return self._loop(body, name, inputs, env, opsets, depth)
        if node.op_type == "Scan":
            return self._scan(node, body, name, inputs, env, opsets, depth)
        return self._map(body, name, inputs, env, opsets, depth)

    def _dearer_branch(
        self,
        graphs: Mapping[str, onnx.GraphProto],
        name: str,
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> Sequence[Value | None]:
        """Read both branches and keep the one with more work."""
        start, before = len(self.nodes), dict(self.notes)
        read: list[tuple[tuple[int, int], list[StaticNode], dict[str, None], list[Value]]] = []
        failure: ExportError | None = None
        for key in ("then_branch", "else_branch"):
            self.notes = dict(before)
            try:
                values = self._graph(graphs[key], dict(env), f"{name}/{key}/", opsets, depth + 1)
            except ExportError as error:
                failure = error
            else:
                made = self.nodes[start:]
                read.append(((sum(item.macs for item in made), len(made)), made, dict(self.notes), values))
            del self.nodes[start:]
        self.notes = before
        if not read:
            raise failure or ExportError(
                f"{self.file.source} is no valid graph: {name} has no branch. Export it again."
            )
        _, nodes, notes, values = max(read, key=lambda item: item[0])
        self.nodes += nodes
        self.notes = {**notes, f"{name}: which branch runs is decided by the data; counted with the dearer one": None}
        return values

    def _loop(
        self,
        body: onnx.GraphProto,
        name: str,
        inputs: Sequence[Value | None],
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> list[Value | None]:
        trips = None if inputs[0] is None else inputs[0].scalar()
        condition: Value | None = inputs[1] if len(inputs) > 1 else None
        unsure = inputs[0] is not None and trips is None
        running = True if condition is None else condition.scalar()
        unsure = unsure or running is None or (inputs[0] is None and condition is None)
        carried: list[Value | None] = list(inputs[2:])
        collected: list[list[Value]] = [[] for _ in body.output[1 + len(carried) :]]
        limit = math.inf if trips is None else int(trips)
        counter = 0
        start = len(self.nodes)
        steps = self.steps
        while counter < limit and running is not False and not (running is not None and not running):
            inner = dict(env)
            scope = f"{name}/{counter}/" if counter else f"{name}/"
            number = self._value(f"{scope}iteration", TensorProto.INT64, (), constant=True, data=np.array(counter))
            proceed = self._value(f"{scope}condition", TensorProto.BOOL, (), constant=True, data=np.array(True))
            for item, value in zip(body.input, [number, proceed, *carried], strict=False):
                if value is not None:
                    inner[item.name] = value
            results = self._graph(body, inner, scope, opsets, depth + 1)
            running = results[0].scalar()
            carried = list(results[1 : 1 + len(carried)])
            for held, value in zip(collected, results[1 + len(carried) :], strict=True):
                held.append(value)
            counter += 1
            self.steps += 1
            unsure = unsure or (running is None)
            if unsure:
                break
            if self.steps - steps > STEP_LIMIT:
                if math.isinf(limit):
                    unsure = True
                else:
                    counter = self._repeat(start, counter, int(limit))
                break
        if unsure:
            self.notes[f"{name}: how often the loop runs is decided by the data; its body is counted once"] = None
        stacked: list[Value | None] = []
        for item, held in zip(body.output[1 + len(carried) :], collected, strict=True):
            inside: Shape = held[0].shape if held else ()
            kind = held[0].kind if held else item.type.tensor_type.elem_type or TensorProto.FLOAT
            if not held:
                inside = tuple(size or 1 for size in open_shape(item.type.tensor_type, self.dims) or ())
            stacked.append(self._value(f"{name}/{item.name}/all", kind, (counter, *inside)))
        return [*carried, *stacked]

    def _repeat(self, start: int, done: int, times: int) -> int:
        """Emit the operators read since ``start``, which are ``done`` runs of a body, until they are ``times`` runs."""
        read = self.nodes[start:]
        each = len(read) // max(done, 1)
        last = read[len(read) - each :]
        if not each:
            return times
        if start + each * times > NODE_LIMIT:
            raise ExportError(
                f"{self.file.source} runs over {NODE_LIMIT} operators; its loops are too long to be counted."
            )
        for index in range(done, times):
            self.nodes += [replace(item, name=f"{item.name}/{index}") for item in last]
        return times

    def _scan(
        self,
        node: onnx.NodeProto,
        body: onnx.GraphProto,
        name: str,
        inputs: Sequence[Value | None],
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> list[Value | None]:
        values = attributes(node)
        count = int(values.get("num_scan_inputs", 0))
        batched = opsets.get("", 9) < 9
        given = [item for item in (inputs[1:] if batched else inputs) if item is not None]
        carried, scanned = given[: len(given) - count], given[len(given) - count :]
        axes = [int(axis) for axis in values.get("scan_input_axes", [0] * count)]
        batch = given[0].shape[0] if batched and given and given[0].shape else 1
        if batched:
            carried = [replace(item, shape=item.shape[1:]) for item in carried]
            axes = [1] * count
        length = scanned[0].shape[axes[0]] if scanned and scanned[0].shape else 0
        start, steps = len(self.nodes), self.steps
        states, runs, counter = list(carried), batch * length, 0
        collected: list[Value] = []
        while counter < runs:
            scope = f"{name}/{counter}/" if counter else f"{name}/"
            inner = dict(env)
            slices = []
            for index, (item, axis) in enumerate(zip(scanned, axes, strict=True)):
                shape = [size for place, size in enumerate(item.shape) if place != axis % len(item.shape)]
                part = shape[1:] if batched else shape
                slices.append(self._value(f"{scope}slice{index}", item.kind, tuple(part), constant=item.constant))
            for declared, value in zip(body.input, [*states, *slices], strict=False):
                inner[declared.name] = value
            collected = self._graph(body, inner, scope, opsets, depth + 1)
            states = collected[: len(carried)]
            counter += 1
            self.steps += 1
            if self.steps - steps > STEP_LIMIT:
                counter = self._repeat(start, counter, runs)
        front = (batch,) if batched else ()
        found: list[Value | None] = [
            self._value(f"{name}/{index}/last", item.kind, (*front, *item.shape)) for index, item in enumerate(states)
        ]
        out_axes = [int(axis) for axis in values.get("scan_output_axes", [0] * len(body.output))]
        for index, item in enumerate(collected[len(carried) :]):
            shape = list(item.shape)
            axis = out_axes[index] if index < len(out_axes) else 0
            shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, length)
            found.append(self._value(f"{name}/{index}/all", item.kind, (*front, *shape)))
        return found

    def _map(
        self,
        body: onnx.GraphProto,
        name: str,
        inputs: Sequence[Value | None],
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> list[Value | None]:
        first = inputs[0]
        length = len(first.items or ()) if first is not None else 0
        outputs: list[list[Value]] = [[] for _ in body.output]
        for index in range(length):
            inner = dict(env)
            for item, value in zip(body.input, inputs, strict=False):
                if value is not None:
                    inner[item.name] = value.items[index] if value.items else value
            for held, value in zip(
                outputs, self._graph(body, inner, f"{name}/{index}/", opsets, depth + 1), strict=True
            ):
                held.append(value)
        return [self._list(f"{name}/{index}/all", held) for index, held in enumerate(outputs)]


_ABSENT = Value("", TensorProto.FLOAT, ())


def _tensors_of(value: Value) -> Iterable[Value]:
    """The tensors of a sequence, or the tensor itself."""
    return (value,) if value.items is None else tuple(item for part in value.items for item in _tensors_of(part))


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


def _bound_node(
    node: onnx.NodeProto, bound: Mapping[str, onnx.AttributeProto], absent: set[str] | frozenset[str]
) -> onnx.NodeProto:
    """A copy of a function's node with the caller's attributes, and without the inputs that the caller left out."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    for item in node.attribute:
        if item.ref_attr_name:
            given = bound.get(item.ref_attr_name)
            if given is not None:
                taken = made.attribute.add()
                taken.CopyFrom(given)
                taken.name = item.name
            continue
        kept = made.attribute.add()
        kept.CopyFrom(item)
        if kept.HasField("g"):
            inner = [_bound_node(part, bound, absent) for part in kept.g.node]
            del kept.g.node[:]
            kept.g.node.extend(inner)
    inputs = ["" if name in absent else name for name in node.input]
    del made.input[:]
    made.input.extend(inputs)
    return made


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
