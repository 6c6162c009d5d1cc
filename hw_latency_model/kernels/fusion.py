"""Fusion of operations into kernels: the rules of each runtime as data, and the pass that applies them.

The rules concern an operation that directly follows a convolution (or another anchor) and is the only reader of its
result: conv/activation, conv/add and conv/batch-norm fusions of ONNX Runtime and TensorRT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hw_latency_model.kernels.layout import Relayout, relayouts
from hw_latency_model.kernels.op_graph import (
    CONVOLUTIONS,
    VIEW,
    Op,
    OpGraph,
    Shape,
    rows_and_columns,
    without_compounds,
)
from hw_latency_model.types import KernelSpec

RULES_VERSION = 2
"""Increased when the same network gives other kernels: measurements store their kernels and must not be mixed across versions."""


@dataclass(frozen=True)
class FusionRules:
    """Fusion rules of one runtime.

    Attributes:
        runtime: its name.
        activations: operations fused into a preceding anchor.
        anchors: operations that others are fused into.
        residual_add: the addition of another activation is fused into a convolution.
        narrow_below: dense convolutions with fewer input channels (than one block of the layout) take a slower path and
            are a separate kind.
        block: channels per block of the convolutions' layout; copies between it and the planar layout are kernels of kind
            ``relayout`` without a node. 0 for a runtime with one layout.
    """

    runtime: str
    activations: frozenset[str]
    anchors: frozenset[str] = CONVOLUTIONS | {"gemm"}
    residual_add: bool = True
    narrow_below: int = 16
    block: int = 0


RULES: dict[str, FusionRules] = {
    "onnxruntime": FusionRules(
        "onnxruntime",
        frozenset({"relu", "clip", "sigmoid", "hard_sigmoid", "tanh", "leaky_relu", "hard_swish"}),
        block=16,
    ),
    # 8-bit kernels: relu and clip are absorbed by the rounding of a convolution's result; nothing else is fused.
    "onnxruntime-int8": FusionRules("onnxruntime-int8", frozenset({"relu", "clip"}), residual_add=False),
    "tensorrt": FusionRules(
        "tensorrt", frozenset({"relu", "clip", "sigmoid", "hard_sigmoid", "tanh", "leaky_relu", "hard_swish", "silu"})
    ),
}

KIND_OF = {
    **dict.fromkeys(
        ("add", "mul", "sub", "div", "max", "min", "neg", "abs", "sqrt", "pow", "reciprocal"), "elementwise"
    ),
    **dict.fromkeys(("relu", "clip", "hard_sigmoid", "leaky_relu", "prelu"), "elementwise"),
    "hard_swish": "hard_swish",
    **dict.fromkeys(("sigmoid", "tanh", "silu", "gelu", "erf", "exp", "log"), "transcendental"),
    **dict.fromkeys(("max_pool", "avg_pool"), "pool"),
    **dict.fromkeys(("slice", "split", "transpose", "pad", "gather", "expand", "copy"), "move"),
    **dict.fromkeys(("batchnorm", "layernorm", "groupnorm", "instancenorm"), "norm"),
    **dict.fromkeys(("global_pool", "spatial_mean"), "global_pool"),
    "reduce": "reduce",
    "resize_linear": "resize_linear",
    "resize_cubic": "resize_cubic",
    "resize_nearest": "resize_nearest",
    "concat": "concat",
    "gemm": "gemm",
    "softmax": "softmax",
    "argmax": "argmax",
}
"""Kind of a kernel by its anchor's operation; convolutions are distinguished by shape, missing operations are unknown kinds."""


def kind_of(op: Op, in_shape: Shape, rules: FusionRules) -> str:
    """Return the kind of a kernel anchored at ``op``; ``op:NAME`` for an unknown operation.

    Dense convolutions: ``vector`` on 1×1 maps (a matrix times a vector), ``narrow_conv`` and ``narrow_pointwise`` from few channels,
    ``pointwise`` with a 1×1 kernel, ``conv`` otherwise.
    """
    if op.op == "transposed_conv":
        return "transposed_conv"
    if op.op == "conv":
        if op.groups > 1:
            return "depthwise" if op.groups == in_shape[1] else "grouped_conv"
        if math.prod(in_shape[2:]) == 1:
            return "vector"
        if in_shape[1] < rules.narrow_below:
            return "narrow_pointwise" if op.kernel == (1, 1) else "narrow_conv"
        return "pointwise" if op.kernel == (1, 1) else "conv"
    return KIND_OF.get(op.op, op.op if op.op.startswith("op:") else f"op:{op.op}")


@dataclass
class _Kernel:
    anchor: Op
    depth: int
    output: str
    input_values: list[str]
    weight_elements: int
    has_bias: bool
    fused: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    open: bool = True


def fuse(graph: OpGraph, rules: FusionRules) -> list[KernelSpec]:
    """Fuse the graph's operations into kernels; each operation belongs to exactly one: fused, attached as a free view, or anchor."""
    graph = without_compounds(graph)
    kernels: list[_Kernel] = []
    producer: dict[str, _Kernel] = {}
    for op in graph.ops:
        sources = [producer.get(value) for value in op.inputs]
        host = _host(op, sources, graph, rules)
        if host is not None:
            if op.op == "add":
                host.input_values += [value for value in op.inputs if value != host.output]
            if op.op == "batchnorm" and not host.has_bias:
                host.weight_elements += graph.shapes[op.outputs[0]][1]
                host.has_bias = True
            if op.op == "batchnorm":
                host.output = op.outputs[0]
            elif op.op != VIEW:
                host.fused.append(op.op)
                host.open = host.open and op.op == "add"
                host.output = op.outputs[0]
            elif host.output in op.inputs and graph.uses[host.output] == 1:
                host.output = op.outputs[0]
            host.nodes.append(op.name)
        else:
            weights = sum(math.prod(shape) for shape in op.weight_shapes)
            depth = 1 + max((source.depth for source in sources if source is not None), default=0)
            host = _Kernel(op, depth, op.outputs[0], list(op.inputs), weights, _has_bias(op), nodes=[op.name])
            host.open = op.op in rules.anchors
            kernels.append(host)
        for value in op.outputs:
            producer[value] = host
    specs = [_spec(kernel, graph, rules) for kernel in kernels]
    copies = relayouts([(item.anchor, item.input_values, item.output) for item in kernels], graph, rules.block)
    for copy in reversed(copies):
        needed_by = kernels[min(copy.before, len(kernels) - 1)].anchor
        specs.insert(copy.before, _relayout(copy, graph, needed_by.layer))
    return specs


def _relayout(copy: Relayout, graph: OpGraph, layer: str) -> KernelSpec:
    shape = graph.shapes[copy.value]
    size = graph.bytes_of(copy.value)
    channels = shape[1] if len(shape) > 1 else 1
    hw = (shape[2], shape[3]) if len(shape) == 4 else (0, 0)
    return KernelSpec(
        kind="relayout",
        name=copy.direction,
        macs=0,
        input_bytes=size,
        weight_bytes=0,
        output_bytes=size,
        in_channels=channels,
        out_channels=channels,
        in_hw=hw,
        out_hw=hw,
        layer=layer,
    )


def _host(op: Op, sources: list[_Kernel | None], graph: OpGraph, rules: FusionRules) -> _Kernel | None:
    known = [source for source in sources if source is not None]
    if op.op == VIEW:
        return known[0] if known else None
    ready = [
        source
        for source, value in zip(sources, op.inputs, strict=True)
        if source is not None and source.open and source.output == value and graph.uses[value] == 1
    ]
    if not ready:
        return None
    if op.op == "batchnorm":
        return ready[0] if ready[0].anchor.op in CONVOLUTIONS and not ready[0].fused else None
    if op.op in rules.activations:
        return ready[0]
    if op.op == "add" and rules.residual_add and len(op.inputs) == 2 and op.inputs[0] != op.inputs[1]:
        same = graph.shapes[op.inputs[0]] == graph.shapes[op.inputs[1]]
        takers = [source for source in ready if source.anchor.op in CONVOLUTIONS and "add" not in source.fused]
        # Readers order parallel branches differently, so the anchor is chosen by its properties: the deepest, then the largest.
        return max(takers, key=lambda source: (source.depth, source.weight_elements)) if same and takers else None
    return None


def _has_bias(op: Op) -> bool:
    return any(len(shape) == 1 for shape in op.weight_shapes)


def _spec(kernel: _Kernel, graph: OpGraph, rules: FusionRules) -> KernelSpec:
    op = kernel.anchor
    out_shape = graph.shapes[op.outputs[0]]
    in_shape = graph.shapes[op.inputs[0]] if op.inputs else out_shape
    in_channels = in_shape[1] if len(in_shape) > 1 else in_shape[0] if in_shape else 0
    out_channels = out_shape[1] if len(out_shape) > 1 else out_shape[0] if out_shape else 0
    free = op.op == VIEW
    outputs = op.outputs if kernel.output in op.outputs else (kernel.output,)
    return KernelSpec(
        kind="view" if free else kind_of(op, in_shape, rules),
        name=op.name,
        macs=_macs(op, in_shape, out_shape),
        input_bytes=0 if free else sum(graph.bytes_of(value) for value in kernel.input_values),
        weight_bytes=kernel.weight_elements * graph.element_bytes,
        output_bytes=0 if free else sum(graph.bytes_of(value) for value in outputs),
        in_channels=in_channels,
        out_channels=out_channels,
        kernel=op.kernel,
        stride=op.stride,
        groups=op.groups,
        in_hw=_hw(op, in_shape),
        out_hw=_hw(op, out_shape),
        fused=tuple(kernel.fused),
        nodes=tuple(kernel.nodes),
        dilation=_dilation(op),
        layer=op.layer,
    )


def _hw(op: Op, shape: Shape) -> tuple[int, int]:
    """Height and width of a map; for windows over a sequence it has one row, and over a video the rows of all frames."""
    if len(shape) == 4:
        return shape[2], shape[3]
    if len(shape) not in (3, 5) or (op.op not in CONVOLUTIONS and op.op not in ("max_pool", "avg_pool")):
        return 0, 0
    return rows_and_columns(shape[2:])


def _dilation(op: Op) -> tuple[int, int]:
    """Normalise the dilation: 1 along a side of one tap."""
    high, wide = (reach if side > 1 else 1 for reach, side in zip(op.dilation, op.kernel, strict=True))
    return high, wide


def _macs(op: Op, in_shape: Shape, out_shape: Shape) -> int:
    if op.macs is not None:
        return op.macs
    if op.op == "conv":
        return math.prod(out_shape) * (in_shape[1] // op.groups) * math.prod(op.kernel)
    if op.op == "transposed_conv":
        return math.prod(in_shape) * (out_shape[1] // op.groups) * math.prod(op.kernel)
    if op.op == "gemm":
        return math.prod(out_shape) * in_shape[-1]
    return 0
