"""Fixed reference network, timed around every other to detect changes of the machine's speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from search_spaces._common.files import atomic_path

_SIDE = 128
_STAGES = ((32, 2), (64, 2), (96, 2), (128, 2))


def write_reference(path: Path) -> Path:
    """Write the reference network as ONNX (opset 13): dense, depthwise and pointwise convolutions at 128×128.

    It exceeds the first-level cache, because a network within it is not affected by what slows others down.
    """
    rng = np.random.default_rng(7)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def convolve(source: str, inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        index = len(weights)
        shape = (outer, inner // groups, kernel, kernel)
        weight = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"weight{index}"))
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"weight{index}"],
                [f"conv{index}"],
                group=groups,
                pads=[kernel // 2] * 4,
                strides=[stride] * 2,
            )
        )
        nodes.append(helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"]))
        return f"relu{index}"

    value, inner = convolve("image", 3, 16, 3, 2), 16
    for outer, blocks in _STAGES:
        for block in range(blocks):
            wide = 3 * inner
            value = convolve(value, inner, wide, 1)
            value = convolve(value, wide, wide, 3, 2 if block == 0 else 1, wide)
            value = convolve(value, wide, outer, 1)
            inner = outer
    value = convolve(value, inner, inner, 3)
    nodes.append(helper.make_node("Identity", [value], ["logits"]))
    side = _SIDE // 2 ** (len(_STAGES) + 1)
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, inner, side, side])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return path
