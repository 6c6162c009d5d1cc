"""Reader of ONNX files into ``OpGraph``, with the same vocabulary as for torch modules."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import onnx
from onnx import shape_inference

from exports.onnx.graph import attributes, constant_shapes, declared_shapes, load_graph, node_name
from hw_latency_model.kernels.op_graph import VIEW, Op, OpGraph, Shape
from search_spaces._common.errors import UserError

_VOCABULARY = {
    "Conv": "conv",
    "ConvTranspose": "transposed_conv",
    "BatchNormalization": "batchnorm",
    "LayerNormalization": "layernorm",
    "GroupNormalization": "groupnorm",
    "InstanceNormalization": "instancenorm",
    "Relu": "relu",
    "Clip": "clip",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "Sigmoid": "sigmoid",
    "Swish": "silu",
    "Gelu": "gelu",
    "Tanh": "tanh",
    "Erf": "erf",
    "Exp": "exp",
    "Log": "log",
    "LeakyRelu": "leaky_relu",
    "PRelu": "prelu",
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Neg": "neg",
    "Abs": "abs",
    "Sqrt": "sqrt",
    "Pow": "pow",
    "Reciprocal": "reciprocal",
    "Max": "max",
    "Min": "min",
    "Concat": "concat",
    "ReduceSum": "reduce",
    "ReduceMax": "reduce",
    "ReduceMean": "reduce",
    "ReduceL2": "reduce",
    "GlobalAveragePool": "global_pool",
    "GlobalMaxPool": "global_pool",
    "AveragePool": "avg_pool",
    "MaxPool": "max_pool",
    "Resize": "resize_nearest",
    "Upsample": "resize_nearest",
    "Pad": "pad",
    "Slice": "slice",
    "Split": "split",
    "Transpose": "transpose",
    "Gather": "gather",
    "Expand": "expand",
    "Cast": "copy",
    "Gemm": "gemm",
    "MatMul": "gemm",
    "Softmax": "softmax",
    "ArgMax": "argmax",
}
_VIEWS = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Rounding operations: a quantized graph has the kernels of its float graph; unmerged ones count to a neighbour."""
_CONSTANTS = frozenset({"Constant", "ConstantOfShape", "Shape", "Range"})
_CONSTANTS_ARE_ATTRIBUTES = frozenset(
    {"Reshape", "Slice", "Pad", "Resize", "Upsample", "Expand", "Clip", "Split", "Unsqueeze", "Squeeze", "ReduceMean"}
)
_SKIPPABLE = frozenset({"Slice", "Expand", "Split", "Pad", "Cast"})


def graph_from_onnx(model: onnx.ModelProto | Path) -> OpGraph:
    """Read the operations of an ONNX model with static shapes.

    Raises:
        UserError: the file is missing or not ONNX, or an activation's shape is dynamic.
    """
    source = str(model) if isinstance(model, Path) else "the ONNX model"
    inferred = _with_shapes(load_graph(model))
    constants = constant_shapes(inferred.graph)
    shapes = declared_shapes(inferred.graph)
    ops: list[Op] = []
    for index, node in enumerate(inferred.graph.node):
        if node.op_type in _CONSTANTS or all(name in constants for name in node.input if name):
            for name in node.output:
                constants.setdefault(name, shapes.get(name, ()))
            continue
        ops.append(_op(node, index, constants, shapes, source))
    results = tuple(value.name for value in inferred.graph.output)
    for name in results:
        _shape(name, shapes, source)
    return OpGraph(tuple(ops), shapes, results)


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer the shape of every value where possible, folding constant arithmetic on shapes if needed."""
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    shapes = declared_shapes(inferred.graph)
    fixed = all(value.name in shapes for value in inferred.graph.input)
    if not fixed or all(name in shapes for node in inferred.graph.node for name in node.output if name):
        return inferred
    from onnxslim import slim

    folded = slim(copy.deepcopy(model))
    return shape_inference.infer_shapes(folded, data_prop=True) if folded is not None else inferred


def _shape(name: str, shapes: dict[str, Shape], source: str) -> Shape:
    if name not in shapes:
        raise UserError(
            f"{source} must have static shapes, that of {name!r} is not fixed; export with batch 1 and fixed sizes."
        )
    return shapes[name]


def _op(node: onnx.NodeProto, index: int, constants: dict[str, Shape], shapes: dict[str, Shape], source: str) -> Op:
    inputs = tuple(name for name in node.input if name and name not in constants)
    outputs = tuple(name for name in node.output if name)
    for name in (*inputs, *outputs[:1]):
        _shape(name, shapes, source)
    outputs = tuple(name for name in outputs if name in shapes)
    weights = tuple(
        constants[name]
        for name in node.input
        if name and name in constants and math.prod(constants[name]) > 1 and _is_weight(node.op_type)
    )
    op, details = _describe(node, constants, shapes, inputs[0], outputs[0])
    return Op(op, node_name(node, index), inputs, outputs, weights, **details)


def _is_weight(op_type: str) -> bool:
    return op_type not in _CONSTANTS_ARE_ATTRIBUTES


def _describe(
    node: onnx.NodeProto, constants: dict[str, Shape], shapes: dict[str, Shape], first: str, output: str
) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = attributes(node)
    in_shape, out_shape = shapes[first], shapes[output]
    kind = node.op_type
    if kind in _VIEWS or kind in _ROUNDING or (kind in _SKIPPABLE and in_shape == out_shape and len(node.output) == 1):
        return VIEW, {}
    if kind in ("Conv", "ConvTranspose"):
        weight = constants.get(node.input[1]) or shapes.get(node.input[1], (0, 0, 1, 1))
        return _VOCABULARY[kind], {
            "kernel": _pair(weight[2:]),
            "stride": _pair(values.get("strides", (1, 1))),
            "groups": int(values.get("group", 1)),
            "dilation": _pair(values.get("dilations", (1, 1))),
        }
    if kind in ("AveragePool", "MaxPool"):
        kernel = _pair(values["kernel_shape"])
        if out_shape[2:] == (1, 1) and in_shape[2:] == kernel:
            return "global_pool", {}
        return _VOCABULARY[kind], {"kernel": kernel, "stride": _pair(values.get("strides", (1, 1)))}
    if kind == "ReduceMean" and len(in_shape) == 4 and math.prod(in_shape[:2]) == math.prod(out_shape):
        return "spatial_mean", {}
    if kind in ("Resize", "Upsample") and values.get("mode", "nearest") != "nearest":
        return f"resize_{values['mode']}", {}
    return _VOCABULARY.get(kind, f"op:{kind}"), {}


def _pair(value: Any) -> tuple[int, int]:
    sizes = [int(size) for size in value]
    return (sizes[0], sizes[-1]) if sizes else (0, 0)
