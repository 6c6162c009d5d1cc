"""Kernels of NAS-Bench-201 networks under TensorRT, timed on the Nano in both precisions."""

from __future__ import annotations

from collections.abc import Mapping

from hw_latency_model.few_shot.cell_networks import CONV1, EDGES, NONE, POOL, SKIP, CellNetwork
from hw_latency_model.kernels.fusion import RULES, fuse
from hw_latency_model.kernels.op_graph import Op, OpGraph, Shape
from hw_latency_model.types import KernelSpec

_STAGES = ((16, 32), (32, 16), (64, 8))
_CELLS = 5
_CLASSES = 100


class _Builder:
    """Builder of an operation graph; every value is named by its number."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.shapes: dict[str, Shape] = {}

    def value(self, *shape: int) -> str:
        name = f"v{len(self.shapes)}"
        self.shapes[name] = shape
        return name

    def op(self, op: str, inputs: tuple[str, ...], shape: Shape, **details: object) -> str:
        output = self.value(*shape)
        self.ops.append(Op(op, f"{op}_{len(self.ops)}", inputs, (output,), **details))  # type: ignore[arg-type]
        return output

    def conv(self, source: str, outer: int, side: int, stride: int = 1, *, active: bool = True) -> str:
        """Append ReLU, convolution and batch normalisation, the order of the benchmark."""
        _, inner, height, width = self.shapes[source]
        if active:
            source = self.op("relu", (source,), self.shapes[source])
        shape = (1, outer, height // stride, width // stride)
        weights: tuple[Shape, ...] = ((outer, inner, side, side),)
        result = self.op(
            "conv", (source,), shape, weight_shapes=weights, kernel=(side, side), stride=(stride, stride), groups=1
        )
        return self.op("batchnorm", (result,), shape, weight_shapes=((outer,),) * 4)

    def cell(self, source: str, edges: Mapping[int, list[tuple[str, int]]]) -> str:
        nodes: dict[int, str] = {0: source}
        for target in sorted(edges):
            terms = [self.edge(nodes[start], op) for op, start in edges[target]]
            total = terms[0]
            for term in terms[1:]:
                total = self.op("add", (total, term), self.shapes[total])
            nodes[target] = total
        return nodes[3]

    def edge(self, source: str, op: str) -> str:
        channels = self.shapes[source][1]
        if op == SKIP:
            return source
        if op == POOL:
            return self.op("avg_pool", (source,), self.shapes[source], kernel=(3, 3), stride=(1, 1))
        return self.conv(source, channels, 1 if op == CONV1 else 3)

    def reduction(self, source: str) -> str:
        _, channels, side, _ = self.shapes[source]
        outer = 2 * channels
        main = self.conv(self.conv(source, outer, 3, 2), outer, 3)
        half = (1, channels, side // 2, side // 2)
        pooled = self.op("avg_pool", (source,), half, kernel=(2, 2), stride=(2, 2))
        weights: tuple[Shape, ...] = ((outer, channels, 1, 1),)
        shape = self.shapes[main]
        short = self.op("conv", (pooled,), shape, weight_shapes=weights, kernel=(1, 1), stride=(1, 1), groups=1)
        return self.op("add", (main, short), shape)


def live_edges(arch: str) -> dict[int, list[tuple[str, int]]]:
    """Operations into each of a cell's nodes 1 to 3 on a path from input to output, as (operation, start); others are removed.

    Empty for a cell whose output does not depend on its input.

    Raises:
        UserError: the string is not a cell.
    """
    edges: dict[int, list[tuple[str, int]]] = {}
    for (start, target), op in sorted(zip(EDGES, CellNetwork.parse(arch).pruned.ops, strict=True)):
        if op != NONE:
            edges.setdefault(target, []).append((op, start))
    return edges


def cell_kernels(arch: str) -> list[KernelSpec]:
    """Kernels of the network that repeats this cell five times at each of three resolutions; empty if it is disconnected.

    Raises:
        UserError: the string is not a cell.
    """
    edges = live_edges(arch)
    if not edges:
        return []
    build = _Builder()
    image = build.value(1, 3, 32, 32)
    value = build.conv(image, 16, 3, active=False)
    for index, _ in enumerate(_STAGES):
        if index:
            value = build.reduction(value)
        for _ in range(_CELLS):
            value = build.cell(value, edges)
    channels, side = _STAGES[-1]
    normal = build.op("batchnorm", (value,), (1, channels, side, side), weight_shapes=((channels,),) * 4)
    active = build.op("relu", (normal,), (1, channels, side, side))
    pooled = build.op("global_pool", (active,), (1, channels, 1, 1))
    flat = build.op("free", (pooled,), (1, channels))
    result = build.op("gemm", (flat,), (1, _CLASSES), weight_shapes=((channels, _CLASSES), (_CLASSES,)))
    return fuse(OpGraph(tuple(build.ops), build.shapes, (result,)), RULES["tensorrt"])
