"""Kernels timed in isolation, each in a separate ONNX file: training data of a predictor like nn-Meter's."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from hw_latency_model.types import KernelSpec

_CONVOLUTIONS = frozenset(
    {"conv", "pointwise", "depthwise", "grouped_conv", "vector", "narrow_conv", "narrow_pointwise"}
)
_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "hard_sigmoid": "HardSigmoid"}
_RUNS = 25


def sample(
    networks: Sequence[tuple[str, Sequence[KernelSpec]]], per_kind: int, seed: int
) -> list[tuple[KernelSpec, tuple[str, ...]]]:
    """Return up to ``per_kind`` different kernels of each kind that can be isolated, with the families that have them."""
    found: dict[tuple[object, ...], tuple[KernelSpec, set[str]]] = {}
    for family, kernels in networks:
        for kernel in kernels:
            if kernel_model(kernel) is not None:
                value = kernel.to_dict()
                key = tuple(map(str, (item for name, item in value.items() if name != "name")))
                found.setdefault(key, (kernel, set()))[1].add(family)
    by_kind: dict[str, list[tuple[KernelSpec, set[str]]]] = {}
    for kernel, families in found.values():
        by_kind.setdefault(kernel.kind, []).append((kernel, families))
    rng = np.random.default_rng(seed)
    return [
        (items[index][0], tuple(sorted(items[index][1])))
        for items in by_kind.values()
        for index in sorted(rng.permutation(len(items))[:per_kind])
    ]


def time_kernel(kernel: KernelSpec) -> float:
    """Milliseconds of the kernel alone, on one core: the median of 25 runs."""
    model = kernel_model(kernel)
    if model is None:
        raise ValueError(f"a kernel of kind {kernel.kind} cannot stand alone")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.onnx"
        onnx.save(model, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {item.name: rng.standard_normal(item.shape, dtype=np.float32) for item in session.get_inputs()}
    times = []
    for _ in range(_RUNS + 5):
        begun = time.thread_time()
        session.run(None, feed)
        times.append(time.thread_time() - begun)
    return float(np.median(times[5:])) * 1e3


def kernel_model(kernel: KernelSpec) -> onnx.ModelProto | None:
    """The kernel as an ONNX model; None for kinds that mean nothing on their own."""
    build = _BUILDERS.get(kernel.kind, _convolution if kernel.kind in _CONVOLUTIONS else None)
    if build is None or 0 in (*kernel.in_hw, *kernel.out_hw):
        return None
    return build(kernel)


def _convolution(kernel: KernelSpec) -> onnx.ModelProto:
    groups = max(kernel.groups, 1)
    shape = (kernel.out_channels, kernel.in_channels // groups, *kernel.kernel)
    weight = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    reach = [
        max(0, (out - 1) * step + apart * (size - 1) + 1 - inner)
        for out, step, apart, size, inner in zip(
            kernel.out_hw, kernel.stride, kernel.dilation, kernel.kernel, kernel.in_hw, strict=True
        )
    ]
    pads = [reach[0] // 2, reach[1] // 2, reach[0] - reach[0] // 2, reach[1] - reach[1] // 2]
    shape_of = {"group": groups, "pads": pads, "strides": list(kernel.stride), "dilations": list(kernel.dilation)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], **shape_of)]
    inputs = [_tensor("x", kernel.in_channels, kernel.in_hw)]
    last = "c"
    for index, name in enumerate(kernel.fused):
        if name == "add":
            inputs.append(_tensor("r", kernel.out_channels, kernel.out_hw))
            nodes.append(helper.make_node("Add", [last, "r"], [f"f{index}"]))
        else:
            nodes.append(helper.make_node(_ACTIVATIONS.get(name, "Relu"), [last], [f"f{index}"]))
        last = f"f{index}"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    return _model(nodes, inputs, kernel, [numpy_helper.from_array(weight, "w")])


def _resize(kernel: KernelSpec) -> onnx.ModelProto:
    scales = np.array([1, 1, *(o / i for o, i in zip(kernel.out_hw, kernel.in_hw, strict=True))], dtype=np.float32)
    mode = "linear" if kernel.kind == "resize_linear" else "nearest"
    nodes = [helper.make_node("Resize", ["x", "", "s"], ["y"], mode=mode)]
    inputs = [_tensor("x", kernel.in_channels, kernel.in_hw)]
    return _model(nodes, inputs, kernel, [numpy_helper.from_array(scales, "s")])


def _elementwise(kernel: KernelSpec) -> onnx.ModelProto:
    whole = 4 * kernel.out_channels * kernel.out_hw[0] * kernel.out_hw[1]
    second = kernel.out_hw if kernel.input_bytes >= 2 * whole else (1, 1)
    inputs = [_tensor("x", kernel.out_channels, kernel.out_hw), _tensor("r", kernel.out_channels, second)]
    return _model([helper.make_node("Mul" if second == (1, 1) else "Add", ["x", "r"], ["y"])], inputs, kernel, [])


def _global_pool(kernel: KernelSpec) -> onnx.ModelProto:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=1)]
    return _model(nodes, [_tensor("x", kernel.in_channels, kernel.in_hw)], kernel, [])


def _pool(kernel: KernelSpec) -> onnx.ModelProto:
    size = [max(1, side) for side in kernel.kernel]
    pads = [side // 2 if side % 2 else 0 for side in size] * 2
    nodes = [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=size, strides=list(kernel.stride), pads=pads)]
    return _model(nodes, [_tensor("x", kernel.in_channels, kernel.in_hw)], None, [])


_BUILDERS: dict[str, Callable[[KernelSpec], onnx.ModelProto]] = {
    "resize_linear": _resize,
    "resize_nearest": _resize,
    "elementwise": _elementwise,
    "global_pool": _global_pool,
    "pool": _pool,
}


def _tensor(name: str, channels: int, hw: tuple[int, int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, *hw])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    kernel: KernelSpec | None,
    constants: list[onnx.TensorProto],
) -> onnx.ModelProto:
    shape = ["n", "c", "h", "w"] if kernel is None else [1, kernel.out_channels, *kernel.out_hw]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "kernel", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
