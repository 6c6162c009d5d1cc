"""Reader of ONNX files into ``OpGraph``, with the same vocabulary as for torch modules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from exports.onnx.recorder import StaticNode
from exports.onnx.static_graph import StaticGraph
from hw_latency_model.kernels.op_graph import CONVOLUTIONS, VIEW, Op, OpGraph, Shape, rows_and_columns, steps

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
    **dict.fromkeys(("QLinearConv", "ConvInteger", "FusedConv", "NhwcConv", "NhwcFusedConv"), "conv"),
    **dict.fromkeys(("Gemm", "MatMul", "Einsum", "QLinearMatMul", "MatMulInteger"), "gemm"),
    **dict.fromkeys(("FusedGemm", "QGemm", "FusedMatMul", "TransposeMatMul"), "gemm"),
    **dict.fromkeys(("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits", "MatMulBnb4"), "gemm"),
    **dict.fromkeys(("FastGelu", "QuickGelu", "BiasGelu"), "gelu"),
    "QLinearAdd": "add",
    "QLinearMul": "mul",
    "QLinearSigmoid": "sigmoid",
    "QLinearLeakyRelu": "leaky_relu",
    "QLinearSoftmax": "softmax",
    "QLinearConcat": "concat",
    "QLinearGlobalAveragePool": "global_pool",
    "ConcatFromSequence": "concat",
    "SplitToSequence": "split",
    "Softmax": "softmax",
    "ArgMax": "argmax",
}
_VIEWS = frozenset(
    {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "ReorderInput", "ReorderOutput"}
)
_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Rounding operations: a quantized graph has the kernels of its float graph; unmerged ones count to a neighbour."""
_CONSTANTS_ARE_ATTRIBUTES = frozenset(
    {"Reshape", "Slice", "Pad", "Resize", "Upsample", "Expand", "Clip", "Split", "Unsqueeze", "Squeeze", "ReduceMean"}
)
_DOMAINS = ("", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")
"""Whose operators go by their plain names; those of other domains are named with it."""
_SKIPPABLE = frozenset({"Slice", "Expand", "Split", "Pad", "Cast"})


def graph_from_static(graph: StaticGraph) -> OpGraph:
    """Describe the operators of a model under the vocabulary of the kernels."""
    return OpGraph(tuple(_op(node, graph) for node in graph.nodes), dict(graph.shapes), graph.results)


def _op(node: StaticNode, graph: StaticGraph) -> Op:
    shapes, constants = graph.shapes, graph.constants
    inputs = tuple(name for name in node.inputs if name and name not in constants)
    outputs = tuple(name for name in node.outputs if name)
    weights = tuple(
        shapes[name]
        for name in node.inputs
        if name and name in constants and math.prod(shapes[name]) > 1 and node.op not in _CONSTANTS_ARE_ATTRIBUTES
    )
    out_shape = shapes[outputs[0]] if outputs else ()
    op, details = _describe(node, shapes, shapes[inputs[0]] if inputs else out_shape, out_shape)
    return Op(op, node.name, inputs, outputs, weights, macs=node.macs, **details)


def _describe(
    node: StaticNode, shapes: Mapping[str, Shape], in_shape: Shape, out_shape: Shape
) -> tuple[str, dict[str, Any]]:
    values, kind = node.attributes, node.op
    if kind in _VIEWS or kind in _ROUNDING or (kind in _SKIPPABLE and in_shape == out_shape and len(node.outputs) == 1):
        return VIEW, {}
    if _VOCABULARY.get(kind) in CONVOLUTIONS:
        place = 3 if kind == "QLinearConv" else 1
        weight = shapes.get(node.inputs[place], (0, 0, 1, 1)) if len(node.inputs) > place else (0, 0, 1, 1)
        return _VOCABULARY[kind], {
            "kernel": rows_and_columns(weight[2:]),
            "stride": steps(values.get("strides", (1, 1))),
            "groups": int(values.get("group", 1)),
            "dilation": steps(values.get("dilations", (1, 1))),
        }
    if kind in ("AveragePool", "MaxPool") and "kernel_shape" in values:
        kernel = tuple(int(size) for size in values["kernel_shape"])
        if math.prod(out_shape[2:]) == 1 and in_shape[2:] == kernel:
            return "global_pool", {}
        return _VOCABULARY[kind], {"kernel": rows_and_columns(kernel), "stride": steps(values.get("strides", (1, 1)))}
    if kind == "ReduceMean" and len(in_shape) == 4 and math.prod(in_shape[:2]) == math.prod(out_shape):
        return "spatial_mean", {}
    if kind in ("Resize", "Upsample") and values.get("mode", "nearest") != "nearest":
        return f"resize_{_RESIZES.get(values['mode'], values['mode'])}", {}
    if node.domain not in _DOMAINS:
        return f"op:{node.domain}.{kind}", {}
    return _VOCABULARY.get(kind, f"op:{kind}"), {}


_RESIZES = {"bilinear": "linear", "bicubic": "cubic"}
