"""Operation graph that both readers (ONNX files, torch modules) produce, with one vocabulary, before fusion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

Shape = tuple[int, ...]

VIEW = "free"
"""Operation without data movement at run time: a view, an identity, a slice of everything."""

CONVOLUTIONS = frozenset({"conv", "transposed_conv"})


@dataclass(frozen=True)
class Op:
    """One operation.

    Attributes:
        op: name in the vocabulary (``conv``, ``batchnorm``, ``relu``, ``add``, ``resize``...), ``free``, or ``op:NAME``
            for an unknown operation.
        name: unique name in the graph.
        inputs: ids of the activations read (without constants).
        outputs: ids of the values written.
        weight_shapes: shapes of the constants read, without scalars.
        kernel, stride, groups, dilation: parameters of a convolution or pooling.
        macs: multiply-accumulates counted by the reader; None: computed from the shapes.
        module: name of the module whose weights a convolution reads, for graphs of torch modules.
        layer: name of the innermost module that runs it, for display; empty for graphs of files.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight_shapes: tuple[Shape, ...] = ()
    kernel: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (0, 0)
    groups: int = 0
    dilation: tuple[int, int] = (1, 1)
    macs: int | None = None
    module: str = ""
    layer: str = field(default="", compare=False)


@dataclass(frozen=True)
class OpGraph:
    """Operations in topological order, the shape of every activation, and the network's results."""

    ops: tuple[Op, ...]
    shapes: dict[str, Shape]
    results: tuple[str, ...]
    element_bytes: int = 4
    uses: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        uses = Counter(value for op in self.ops for value in op.inputs)
        uses.update(self.results)
        object.__setattr__(self, "uses", uses)

    def bytes_of(self, value: str) -> int:
        return math.prod(self.shapes[value]) * self.element_bytes


def rows_and_columns(sizes: Sequence[int]) -> tuple[int, int]:
    """Height and width of a window or map: a sequence is one row, and the frames of a video count as rows."""
    if not sizes:
        return 0, 0
    return math.prod(int(size) for size in sizes[:-1]), int(sizes[-1])


def steps(values: Sequence[int]) -> tuple[int, int]:
    """Stride or dilation along rows and columns; a sequence has 1 along rows, and a video that of one frame."""
    padded = [1, *(int(value) for value in values)]
    return padded[-2], padded[-1]


def without_compounds(graph: OpGraph) -> OpGraph:
    """Replace ``x * hard_sigmoid(x)`` by ``hard_swish`` and ``x * sigmoid(x)`` by ``silu``, in either order of the factors.

    Exporters decompose them for old opsets, torch does not; both become one operation, named after the product.
    """
    gates = {op.outputs[0]: op for op in graph.ops if op.op in ("hard_sigmoid", "sigmoid")}
    merged: dict[str, Op] = {}
    dropped: set[str] = set()
    for op in graph.ops:
        if op.op != "mul" or len(op.inputs) != 2:
            continue
        for gate_value, other in (op.inputs, op.inputs[::-1]):
            gate = gates.get(gate_value)
            if gate is not None and gate.inputs == (other,) and graph.uses[gate_value] == 1:
                swish = "hard_swish" if gate.op == "hard_sigmoid" else "silu"
                merged[op.name] = Op(swish, f"{op.name}+{gate.name}", (other,), op.outputs, layer=op.layer)
                dropped.add(gate.name)
                break
    if not merged:
        return graph
    ops = tuple(merged.get(op.name, op) for op in graph.ops if op.name not in dropped)
    return OpGraph(ops, graph.shapes, graph.results, graph.element_bytes)
