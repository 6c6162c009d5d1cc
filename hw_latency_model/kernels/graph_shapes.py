"""Operation graphs at another image size or with fewer channels, by rewriting shapes instead of building the network.

Convolutional networks whose strides divide the image keep every operation when the image grows; only heights and widths
change, by the same factor. Structured pruning keeps every operation too: the number of channels kept depends on their
number. One trace therefore gives all sizes exactly; where this is not guaranteed, ``Unscalable`` is raised and the caller
builds the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hw_latency_model.kernels.op_graph import CONVOLUTIONS, VIEW, Op, OpGraph, Shape

_ALIGNED = frozenset({"split", "slice", "transpose", "gather", "gemm", "reduce", "expand", VIEW})
"""Operations through which channels are followed only if they change nothing but height and width."""


class Unscalable(ValueError):
    """The network at that size cannot be derived from its operations."""


def resized(graph: OpGraph, old_hw: tuple[int, int], new_hw: tuple[int, int]) -> OpGraph:
    """Rescale the graph from an image of ``old_hw`` to ``new_hw``; 1×1 maps do not change.

    Raises:
        Unscalable: a map's height or width would not be an integer of at least 1 at the new size.
    """
    if old_hw == new_hw:
        return graph
    shapes = {value: _resized(shape, old_hw, new_hw) for value, shape in graph.shapes.items()}
    return OpGraph(graph.ops, shapes, graph.results, graph.element_bytes)


def _resized(shape: Shape, old_hw: tuple[int, int], new_hw: tuple[int, int]) -> Shape:
    if len(shape) != 4:
        if len(shape) > 2:
            raise Unscalable(f"a value of shape {shape} has no height and width")
        return shape
    if shape[2:] == (1, 1):
        return shape
    sides = [side * new for side, new in zip(shape[2:], new_hw, strict=True)]
    if any(side % old for side, old in zip(sides, old_hw, strict=True)):
        raise Unscalable(f"a map of {shape[2:]} at {old_hw} is no whole number of pixels at {new_hw}")
    height, width = (side // old for side, old in zip(sides, old_hw, strict=True))
    return (shape[0], shape[1], height, width)


def with_fewer_channels(graph: OpGraph, kept: Callable[[Op, int], int]) -> OpGraph:
    """Apply structured pruning to the graph: a convolution ``op`` with ``c`` outputs keeps ``kept(op, c)``, classifiers keep all.

    Classifiers are the convolutions without another convolution between them and the results.

    Raises:
        Unscalable: channels cannot be followed through an operation.
    """
    final = _classifiers(graph)
    shapes = dict(graph.shapes)
    ops = []
    for op in graph.ops:
        ops.append(_pruned(op, graph.shapes, shapes, kept, op.name in final))
    return OpGraph(tuple(ops), shapes, graph.results, graph.element_bytes)


def _classifiers(graph: OpGraph) -> set[str]:
    wanted, found = set(graph.results), set()
    for op in reversed(graph.ops):
        if wanted.isdisjoint(op.outputs):
            continue
        if op.op == "conv":
            found.add(op.name)
        else:
            wanted.update(op.inputs)
    return found


def _pruned(op: Op, old: dict[str, Shape], new: dict[str, Shape], kept: Callable[[Op, int], int], final: bool) -> Op:
    if op.op in CONVOLUTIONS:
        return _pruned_conv(op, old, new, kept, final)
    before = old[op.inputs[0]]
    out = old[op.outputs[0]]
    if len(op.outputs) != 1 or (op.op in _ALIGNED and out[:2] != before[:2]):
        raise Unscalable(f"channels cannot be followed through {op.name} ({op.op})")
    if op.op == "concat":
        if sum(old[value][1] for value in op.inputs) != out[1]:
            raise Unscalable(f"{op.name} joins something other than channels")
        channels = sum(new[value][1] for value in op.inputs)
    else:
        counts = {new[value][1] for value in op.inputs if old[value][1] == out[1]}
        if len(counts) != 1 or len(out) != 4:
            raise Unscalable(f"{op.name} joins {sorted(counts)} channels of tensors that had {out[1]}")
        channels = counts.pop()
    new[op.outputs[0]] = (out[0], channels, *out[2:])
    weights = tuple(tuple(channels if size == out[1] else size for size in shape) for shape in op.weight_shapes)
    return replace(op, weight_shapes=weights) if weights else op


def _pruned_conv(
    op: Op, old: dict[str, Shape], new: dict[str, Shape], kept: Callable[[Op, int], int], final: bool
) -> Op:
    source, out = op.inputs[0], old[op.outputs[0]]
    inner = new[source][1]
    if op.groups > 1 and not op.groups == old[source][1] == out[1]:
        raise Unscalable(f"{op.name} is a grouped convolution, its groups decide what stays")
    if op.groups > 1:
        channels, groups = inner, inner
    else:
        channels, groups = (out[1] if final else kept(op, out[1])), 1
    new[op.outputs[0]] = (out[0], channels, *out[2:])
    sides = (channels, inner // groups) if op.op == "conv" or groups > 1 else (inner, channels)
    weights = tuple((*sides, *shape[2:]) if len(shape) == 4 else (channels,) for shape in op.weight_shapes)
    return replace(op, groups=groups if op.groups else 0, weight_shapes=weights)
