"""The fixed network that is timed before and after every other: when its time changes, the machine changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from search_spaces.files import atomic_path

_CHANNELS = 48
_SIDE = 48
_BLOCKS = 3


def write_reference(path: Path) -> Path:
    """Write it as ONNX (opset 13): dense, depthwise and pointwise convolutions, about 90 MMACs on 48×48 maps."""
    rng = np.random.default_rng(7)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def convolve(source: str, channels: int, kernel: int, groups: int) -> str:
        index = len(nodes)
        fan_in = channels // groups * kernel * kernel
        weight = rng.standard_normal((_CHANNELS, channels // groups, kernel, kernel), dtype=np.float32)
        weights.append(numpy_helper.from_array((weight / np.sqrt(fan_in)).astype(np.float32), f"weight{index}"))
        pads = [kernel // 2] * 4
        nodes.append(helper.make_node("Conv", [source, f"weight{index}"], [f"conv{index}"], group=groups, pads=pads))
        nodes.append(helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"]))
        return f"relu{index}"

    value = convolve("image", 3, 3, 1)
    for _ in range(_BLOCKS):
        value = convolve(value, _CHANNELS, 3, _CHANNELS)
        value = convolve(value, _CHANNELS, 1, 1)
    value = convolve(value, _CHANNELS, 3, 1)
    nodes.append(helper.make_node("Identity", [value], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, _CHANNELS, _SIDE, _SIDE])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return path
