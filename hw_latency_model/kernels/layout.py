"""Layout conversions inserted by a runtime between blocked (NCHWc) and planar (NCHW) tensors.

ONNX Runtime's CPU convolutions write results in blocks of channels (NCHWc). Operations that do not support blocks, such as
a broadcast multiplication or a reduction, read planes, so a copy is inserted: not a node of the file, but it takes time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hw_latency_model.kernels.op_graph import CONVOLUTIONS, VIEW, Op, OpGraph

_UNARY = frozenset({"relu", "clip", "sigmoid", "hard_sigmoid", "hard_swish", "silu", "tanh", "leaky_relu", "gelu"})
_BINARY = frozenset({"add", "mul"})
_POOLS = frozenset({"max_pool", "avg_pool", "global_pool"})
_RESIZES = frozenset({"resize_linear", "resize_nearest"})
BLOCKS_FROM_PLANES = "to blocks"
PLANES_FROM_BLOCKS = "to planes"


@dataclass(frozen=True)
class Relayout:
    """Copy of ``value`` into the other layout.

    Attributes:
        before: index of the first kernel that needs it; the number of kernels if it is a result of the network.
        value: id of the copied value.
        direction: ``to blocks`` or ``to planes``.
    """

    before: int
    value: str
    direction: str


def relayouts(kernels: Iterable[tuple[Op, Sequence[str], str]], graph: OpGraph, block: int) -> list[Relayout]:
    """Find the copies between layouts, in order.

    Args:
        kernels: (anchor, values it reads, value it writes) of each kernel, in order.
        graph: graph with the shapes.
        block: channels per block; 0 for a runtime with one layout.
    """
    if not block:
        return []
    views = {value: op.inputs[0] for op in graph.ops if op.op == VIEW and op.inputs for value in op.outputs}
    steps = [(anchor, [_origin(value, views) for value in reads], writes) for anchor, reads, writes in kernels]
    blocked = _blocked(steps, graph, block)
    there: set[tuple[str, str]] = set()
    found: list[Relayout] = []
    for index, (anchor, sources, _) in enumerate(steps):
        needs, _ = _needs(anchor, sources, blocked, graph, block)
        for value in sources:
            direction = _missing(value, needs, blocked)
            if direction is not None and (value, direction) not in there:
                there.add((value, direction))
                found.append(Relayout(index, value, direction))
    for value in (_origin(result, views) for result in graph.results):
        if value in blocked and (value, PLANES_FROM_BLOCKS) not in there:
            found.append(Relayout(len(steps), value, PLANES_FROM_BLOCKS))
    return found


def _blocked(steps: Sequence[tuple[Op, Sequence[str], str]], graph: OpGraph, block: int) -> set[str]:
    """Find the values written in blocks. A kernel with a fused addition may read the result of a later one in the list."""
    blocked: set[str] = set()
    while True:
        before = len(blocked)
        for anchor, sources, writes in steps:
            if _needs(anchor, sources, blocked, graph, block)[1]:
                blocked.update((writes, *anchor.outputs))
        if len(blocked) == before:
            return blocked


def _missing(value: str, needs: bool | None, blocked: set[str]) -> str | None:
    if needs is None or needs == (value in blocked):
        return None
    return BLOCKS_FROM_PLANES if needs else PLANES_FROM_BLOCKS


def _needs(
    anchor: Op, sources: Sequence[str], blocked: set[str], graph: OpGraph, block: int
) -> tuple[bool | None, bool]:
    """Return (reads blocks, writes blocks); None for a kernel that accepts both layouts."""
    shapes = [graph.shapes[value] for value in sources]
    if anchor.op in CONVOLUTIONS:
        if anchor.op != "conv" or len(shapes[0]) != 4:
            return False, False
        return anchor.groups > 1 or shapes[0][1] >= block, True
    if anchor.op == VIEW:
        return None, False
    held = bool(sources) and all(value in blocked for value in sources)
    aligned = all(len(shape) == 4 and shape[1] % block == 0 for shape in shapes)
    same = len(set(shapes)) == 1
    stays = (
        anchor.op in _UNARY
        or (anchor.op in _BINARY and same and len(shapes) > 1)
        or anchor.op in _RESIZES
        or (anchor.op == "concat" and aligned)
    )
    if anchor.op in _POOLS:
        return aligned, aligned
    return (True, True) if held and stays else (False, False)


def _origin(value: str, views: dict[str, str]) -> str:
    while value in views:
        value = views[value]
    return value
