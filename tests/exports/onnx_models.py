"""Small ONNX models of every kind that public files have, each with the work it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)


def weight(name: str, *shape: int, kind: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(RANDOM.standard_normal(shape).astype(kind), name)


def ints(name: str, values: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.int64), name)


def tensor(name: str, shape: Sequence[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **values: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), **values)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    weights: Sequence[TensorProto] = (),
    *,
    opset: int = 17,
    domains: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", list(inputs), [tensor(name, None) for name in outputs], list(weights))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10)


def one(op: str, shape: Sequence[int], *weights: TensorProto, opset: int = 17, **values: Any) -> onnx.ModelProto:
    """A model of one node whose first input is ``x`` and whose others are ``weights``."""
    names = ["x", *(item.name for item in weights)]
    return model([node(op, names, ["y"], **values)], [tensor("x", shape)], ["y"], weights, opset=opset)


IMAGE = tensor("x", [1, 3, 16, 24])
CONV = node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1] * 4)
W = weight("w", 16, 3, 3, 3)
CONV_MACS = 16 * 16 * 24 * 27

WORK: dict[str, tuple[onnx.ModelProto, int]] = {
    "conv of a sequence": (one("Conv", [2, 6, 40], weight("w", 8, 6, 9)), 2 * 8 * 32 * 6 * 9),
    "conv of an image": (one("Conv", [1, 6, 10, 12], weight("w", 8, 3, 3, 5), group=2), 8 * 8 * 8 * 3 * 15),
    "conv of a video": (one("Conv", [1, 4, 6, 8, 10], weight("w", 5, 4, 3, 3, 3)), 5 * 4 * 6 * 8 * 4 * 27),
    "depthwise conv": (one("Conv", [1, 8, 10, 10], weight("w", 8, 1, 3, 3), group=8), 8 * 8 * 8 * 9),
    "transposed conv of a sequence": (
        one("ConvTranspose", [1, 6, 20], weight("w", 6, 4, 5), strides=[2]),
        6 * 20 * 4 * 5,
    ),
    "transposed conv in groups": (
        one("ConvTranspose", [1, 6, 8, 8], weight("w", 6, 2, 4, 4), group=3, strides=[2, 2]),
        6 * 64 * 2 * 16,
    ),
    "transposed conv of a video": (one("ConvTranspose", [1, 2, 3, 4, 5], weight("w", 2, 3, 2, 2, 2)), 2 * 60 * 3 * 8),
    "gemm": (one("Gemm", [4, 32], weight("w", 32, 7)), 4 * 7 * 32),
    "gemm of a transposed left": (one("Gemm", [32, 4], weight("w", 32, 7), transA=1), 4 * 7 * 32),
    "gemm of a transposed right": (one("Gemm", [4, 32], weight("w", 7, 32), transB=1), 4 * 7 * 32),
    "matmul of batches": (one("MatMul", [2, 3, 5, 32], weight("w", 32, 7)), 2 * 3 * 5 * 7 * 32),
    "matmul of a vector": (one("MatMul", [32], weight("w", 32, 7)), 7 * 32),
    "matmul with its constant on the left": (
        model([node("MatMul", ["w", "x"], ["y"])], [tensor("x", [2, 32, 5])], ["y"], [weight("w", 7, 32)]),
        2 * 7 * 5 * 32,
    ),
    "einsum": (one("Einsum", [2, 5, 32], weight("w", 32, 7), equation="bij,jk->bik"), 2 * 5 * 32 * 7),
    "einsum over heads": (
        one("Einsum", [2, 5, 4, 8], weight("w", 2, 6, 4, 8), equation="bqhd,bkhd->bhqk"),
        2 * 4 * 5 * 6 * 8,
    ),
    "einsum with an ellipsis": (
        one("Einsum", [2, 3, 5, 8], weight("w", 8, 7), equation="...ij,jk->...ik"),
        6 * 5 * 8 * 7,
    ),
    "lstm": (one("LSTM", [9, 2, 6], weight("w", 1, 20, 6), weight("r", 1, 20, 5), hidden_size=5), 9 * 2 * 20 * 11),
    "lstm both ways": (
        one("LSTM", [9, 2, 6], weight("w", 2, 20, 6), weight("r", 2, 20, 5), hidden_size=5, direction="bidirectional"),
        2 * 9 * 2 * 20 * 11,
    ),
    "gru": (one("GRU", [9, 2, 6], weight("w", 1, 15, 6), weight("r", 1, 15, 5), hidden_size=5), 9 * 2 * 15 * 11),
    "rnn": (one("RNN", [9, 2, 6], weight("w", 1, 5, 6), weight("r", 1, 5, 5), hidden_size=5), 9 * 2 * 5 * 11),
    "attention": (
        one(
            "Attention",
            [1, 5, 16],
            weight("k", 1, 7, 16),
            weight("v", 1, 7, 24),
            opset=23,
            q_num_heads=2,
            kv_num_heads=2,
        ),
        5 * 7 * (16 + 24),
    ),
    "quantized conv": (
        model(
            [node("QLinearConv", ["x", "s", "z", "w", "s", "zw", "s", "z"], ["y"])],
            [tensor("x", [1, 4, 8, 8], TensorProto.UINT8)],
            ["y"],
            [
                numpy_helper.from_array(np.float32(0.1), "s"),
                numpy_helper.from_array(np.uint8(0), "z"),
                numpy_helper.from_array(np.int8(0), "zw"),
                numpy_helper.from_array(np.ones((5, 4, 3, 3), np.int8), "w"),
            ],
        ),
        5 * 36 * 36,
    ),
    "integer matmul": (
        model(
            [node("MatMulInteger", ["x", "w"], ["y"])],
            [tensor("x", [3, 8], TensorProto.UINT8)],
            ["y"],
            [numpy_helper.from_array(np.ones((8, 5), np.int8), "w")],
        ),
        3 * 8 * 5,
    ),
}
"""Models of one operator, and the multiply-accumulates it does."""


def branch(name: str, nodes: Sequence[onnx.NodeProto], output: str) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [tensor(output, None)])


def conv(source: str, target: str, weights: str = "w") -> onnx.NodeProto:
    return node("Conv", [source, weights], [target], kernel_shape=[3, 3], pads=[1] * 4)


def _conditional(computed: bool) -> onnx.ModelProto:
    then = branch("then", [conv("x", "t"), conv("t", "t2", "w2")], "t2")
    other = branch("else", [conv("x", "e")], "e")
    start = (
        [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Cast", ["m"], ["c"], to=TensorProto.BOOL)]
        if computed
        else []
    )
    constants = [] if computed else [numpy_helper.from_array(np.array(False), "c")]
    return model(
        [*start, node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        [IMAGE],
        ["y"],
        [W, weight("w2", 16, 16, 3, 3), *constants],
    )


def _repeated(trips: int | None) -> onnx.ModelProto:
    """A Loop of one convolution with 3 channels; ``trips`` None: as often as the data says."""
    body = helper.make_graph(
        [conv("v", "v2"), node("Identity", ["c"], ["c2"])],
        "body",
        [tensor("i", [], TensorProto.INT64), tensor("c", [], TensorProto.BOOL), tensor("v", None)],
        [tensor("c2", [], TensorProto.BOOL), tensor("v2", None)],
    )
    counted = [numpy_helper.from_array(np.array(trips, np.int64), "n")] if trips is not None else []
    inputs = [tensor("x", [1, 3, 8, 8])] + ([] if trips is not None else [tensor("n", [], TensorProto.INT64)])
    return model(
        [node("Loop", ["n", "t", "x"], ["y"], body=body)],
        inputs,
        ["y"],
        [weight("w", 3, 3, 3, 3), numpy_helper.from_array(np.array(True), "t"), *counted],
    )


def _scanned() -> onnx.ModelProto:
    """A Scan over 5 rows of 4, each times a 4 x 4 matrix."""
    body = helper.make_graph(
        [node("Add", ["s", "r"], ["s2"]), node("MatMul", ["s2", "w"], ["o"])],
        "body",
        [tensor("s", [1, 4]), tensor("r", [1, 4])],
        [tensor("s2", [1, 4]), tensor("o", [1, 4])],
    )
    return model(
        [node("Scan", ["z", "x"], ["last", "y"], body=body, num_scan_inputs=1)],
        [tensor("x", [5, 1, 4])],
        ["y"],
        [weight("w", 4, 4), weight("z", 1, 4)],
    )


def _functions() -> onnx.ModelProto:
    """Two calls of a local function whose stride is an attribute."""
    inner = onnx.NodeProto(op_type="Conv", input=["X", "W"], output=["c"])
    inner.attribute.add(name="strides", type=onnx.AttributeProto.INTS, ref_attr_name="strides")
    body = [inner, node("Relu", ["c"], ["Y"])]
    made = helper.make_function("pkg", "Block", ["X", "W"], ["Y"], body, [helper.make_opsetid("", 17)], ["strides"])
    calls = [
        node("Block", ["x", "w"], ["a"], domain="pkg", strides=[1, 1]),
        node("Block", ["a", "w2"], ["y"], domain="pkg", strides=[2, 2]),
    ]
    weights = [weight("w", 4, 3, 3, 3), weight("w2", 5, 4, 3, 3)]
    return model(calls, [tensor("x", [1, 3, 12, 12])], ["y"], weights, domains=["pkg"], functions=[made])


STRUCTURES: dict[str, tuple[onnx.ModelProto, int, str]] = {
    "if with a known condition": (_conditional(False), CONV_MACS, ""),
    "if with a computed condition": (_conditional(True), CONV_MACS + 16 * 16 * 24 * 16 * 9, "dearer"),
    "loop with a known count": (_repeated(3), 3 * 3 * 64 * 27, ""),
    "loop that does not run": (_repeated(0), 0, ""),
    "loop with a computed count": (_repeated(None), 3 * 64 * 27, "counted once"),
    "scan": (_scanned(), 5 * 16, ""),
    "local functions": (_functions(), 4 * 100 * 27 + 5 * 16 * 36, ""),
    "sequences": (
        model(
            [
                CONV,
                node("SplitToSequence", ["a", "n"], ["s"], axis=1),
                node("ConcatFromSequence", ["s"], ["b"], axis=1),
                node("Conv", ["b", "w2"], ["y"]),
            ],
            [IMAGE],
            ["y"],
            [W, numpy_helper.from_array(np.array(4, np.int64), "n"), weight("w2", 2, 16, 1, 1)],
        ),
        CONV_MACS + 2 * 16 * 24 * 16,
        "",
    ),
    "shapes computed in the graph": (
        model(
            [
                CONV,
                node("Shape", ["x"], ["s"]),
                node("Slice", ["s", "two", "four"], ["hw"]),
                node("Mul", ["hw", "twice"], ["large"]),
                node("Concat", ["nc", "large"], ["sizes"], axis=0),
                node("Resize", ["a", "", "", "sizes"], ["u"], mode="linear"),
                node("Conv", ["u", "w2"], ["y"]),
            ],
            [IMAGE],
            ["y"],
            [
                W,
                ints("two", [2]),
                ints("four", [4]),
                ints("twice", [2, 2]),
                ints("nc", [1, 16]),
                weight("w2", 2, 16, 1, 1),
            ],
        ),
        CONV_MACS + 2 * 32 * 48 * 16,
        "",
    ),
    "a custom operator": (
        model(
            [CONV, node("MyNorm", ["a"], ["b"], domain="acme"), node("Conv", ["b", "w2"], ["y"])],
            [IMAGE],
            ["y"],
            [W, weight("w2", 2, 16, 1, 1)],
        ),
        CONV_MACS + 2 * 16 * 24 * 16,
        "acme.MyNorm",
    ),
}
"""Models with control flow, functions, sequences and computed shapes: what they do, and a word of the note they get."""
