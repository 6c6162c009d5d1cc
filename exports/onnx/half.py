"""Conversion of a float32 ONNX graph to FP16, with chosen nodes kept in float32."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exports.onnx.graph import node_name

# Inputs that stay float32 in an FP16 node, by ONNX's type rules: regions and scales of Resize.
_ALWAYS_FLOAT32 = {"Resize": (1, 2)}
_MOST_SETS = 8


def convert_to_half(model: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Return a copy of ``model`` whose nodes compute in float16, with float32 input and output.

    A Cast stands where a value passes between nodes of different types. Weights beyond 65504 become infinite.

    Args:
        model: static graph with float32 values; no Q/DQ pairs.
        keep: names of nodes (`exports.onnx.graph.node_name`) that stay in float32.
    """
    graph = model.graph
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name in floats}
    types = {value.name: TensorProto.FLOAT for value in graph.input if value.name not in weights}
    types.update(dict.fromkeys(floats, TensorProto.FLOAT))
    nodes: list[onnx.NodeProto] = []
    copies: dict[tuple[str, int], str] = {}
    initializers = [tensor for tensor in graph.initializer if tensor.name not in floats]

    def converted(name: str, wanted: int) -> str:
        """Name of the value in the wanted type; makes the cast or the copy of the weights on first use."""
        if types[name] == wanted and name not in weights:
            return name
        if (name, wanted) not in copies:
            suffix = "half" if wanted == TensorProto.FLOAT16 else "float"
            copies[name, wanted] = f"{name}__{suffix}"
            if name in weights:
                kind = np.float16 if wanted == TensorProto.FLOAT16 else np.float32
                with np.errstate(over="ignore"):
                    array = numpy_helper.to_array(weights[name]).astype(kind)
                initializers.append(numpy_helper.from_array(array, copies[name, wanted]))
            else:
                nodes.append(helper.make_node("Cast", [name], [copies[name, wanted]], to=wanted))
        return copies[name, wanted]

    for index, node in enumerate(graph.node):
        if node.op_type == "Constant":
            nodes.append(node)
            types.update({node.output[0]: TensorProto.FLOAT} if _is_float_constant(node) else {})
            continue
        wanted = TensorProto.FLOAT if node_name(node, index) in keep else TensorProto.FLOAT16
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        fixed = _ALWAYS_FLOAT32.get(node.op_type, ())
        for position, name in enumerate(node.input):
            if name in types:
                changed.input[position] = converted(name, TensorProto.FLOAT if position in fixed else wanted)
        nodes.append(changed)
        types.update(dict.fromkeys(node.output, wanted))
    result = graph.output[0].name
    if types[result] == TensorProto.FLOAT16:
        for node in nodes:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    if name == result:
                        names[position] = f"{result}__half"
        nodes.append(helper.make_node("Cast", [f"{result}__half"], [result], to=TensorProto.FLOAT))
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    del made.graph.initializer[:]
    del made.graph.value_info[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(initializers)
    onnx.checker.check_model(made, full_check=True)
    return made


def _is_float_constant(node: onnx.NodeProto) -> bool:
    value: Any = next((item.t for item in node.attribute if item.name == "value"), None)
    return value is not None and value.data_type == TensorProto.FLOAT


def offending_nodes(names: Sequence[str], passes: Callable[[Collection[str]], bool]) -> list[str]:
    """Find nodes whose conversion to FP16 breaks the gates, by bisection.

    Minimal failing sets are searched (delta debugging, Zeller 2002) and taken out, until the rest passes.

    Args:
        names: nodes in order of execution.
        passes: True if the network meets the gates with only these nodes in FP16.

    Returns:
        Nodes to keep in float32, in order of execution; all of ``names`` where more than a few sets fail.
    """
    kept: list[str] = []
    rest = list(names)
    for _ in range(_MOST_SETS):
        if passes(rest):
            return [name for name in names if name in kept]
        kept += _failing_set(rest, [], passes)
        rest = [name for name in names if name not in kept]
    return list(names)


def _failing_set(names: list[str], beside: list[str], passes: Callable[[Collection[str]], bool]) -> list[str]:
    """Smallest part of ``names`` that fails together with ``beside``; all of them fail with it."""
    if len(names) == 1:
        return names
    left, right = names[: len(names) // 2], names[len(names) // 2 :]
    for half in (left, right):
        if not passes([*half, *beside]):
            return _failing_set(half, beside, passes)
    return _failing_set(left, [*right, *beside], passes) + _failing_set(right, [*left, *beside], passes)
