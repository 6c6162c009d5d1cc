"""The graph both readers (ONNX files, torch modules) produce: operations under one vocabulary, before fusion."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

Shape = tuple[int, ...]

FREE = "free"
"""An operation that moves nothing at run time: a view, an identity, a slice that keeps everything."""

CONVOLUTIONS = frozenset({"conv", "transposed_conv"})


@dataclass(frozen=True)
class Op:
    """One operation.

    Attributes:
        op: its name in the vocabulary (``conv``, ``batchnorm``, ``relu``, ``add``, ``resize``...), ``free``, or
            ``op:NAME`` for one that the reader does not know.
        name: unique within the graph.
        inputs: ids of the activations it reads (constants are not among them).
        outputs: ids of what it writes.
        weight_shapes: shapes of the constants it reads, scalars left out.
        kernel, stride, groups, dilation: of a convolution or pooling.
        module: name of the module whose weights a convolution reads, where the graph was read from a torch module.
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
    module: str = ""


@dataclass(frozen=True)
class OpGraph:
    """Operations in an order in which they can run, the shape of every activation, and what the network returns."""

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


def without_compounds(graph: OpGraph) -> OpGraph:
    """Replace ``x * hard_sigmoid(x)`` by ``hard_swish`` and ``x * sigmoid(x)`` by ``silu``, however they were spelt.

    Exporters decompose them for old opsets, torch does not; both become one operation here, named after the product.
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
                merged[op.name] = Op(swish, f"{op.name}+{gate.name}", (other,), op.outputs)
                dropped.add(gate.name)
                break
    if not merged:
        return graph
    ops = tuple(merged.get(op.name, op) for op in graph.ops if op.name not in dropped)
    return OpGraph(ops, graph.shapes, graph.results, graph.element_bytes)
