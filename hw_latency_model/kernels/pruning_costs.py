"""What a network's kernels cost, and which groups of channels each of them shrinks with: what an allocation of pruning needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hw_latency_model.kernels.fusion import FusionRules, fuse
from hw_latency_model.kernels.op_graph import CONVOLUTIONS, OpGraph
from hw_latency_model.types import KernelSpec
from search_spaces.pruning.allocation import CostTerm
from search_spaces.pruning.groups import ChannelGroup

_MERGED = "reparam"
"""How timm calls a convolution that training-time branches were merged into."""


def group_of_convolutions(groups: Sequence[ChannelGroup]) -> Callable[[str], str | None]:
    """From the name of a convolution's module to the root of its group; None for one whose channels are not pruned.

    A convolution that branches were merged into (RepVGG) is known by the branches beside it.
    """
    roots = {member.name: group.root for group in groups for member in group.members}

    def find(module: str) -> str | None:
        parent, _, name = module.rpartition(".")
        if module in roots or not name.startswith(_MERGED):
            return roots.get(module)
        below = f"{parent}."
        merged = {root for name, root in roots.items() if name.startswith(below)}
        return merged.pop() if len(merged) == 1 else None

    return find


def cost_terms(
    graph: OpGraph,
    rules: FusionRules,
    groups: Sequence[ChannelGroup],
    costs: Callable[[Sequence[KernelSpec]], Sequence[float]],
) -> list[CostTerm]:
    """Every kernel's cost with the groups it shrinks with; kernels whose channels cannot be followed shrink with none.

    Args:
        graph: the unpruned network.
        costs: of the kernels, in any unit, in their order.
    """
    kernels = fuse(graph, rules)
    shrinks = _groups_of_ops(graph, group_of_convolutions(groups))
    return [
        CostTerm(float(cost), shrinks.get(kernel.name.partition("+")[0], ()))
        for kernel, cost in zip(kernels, costs(kernels), strict=True)
    ]


def macs_of(kernels: Sequence[KernelSpec]) -> list[float]:
    """Multiply-accumulates, as costs."""
    return [float(kernel.macs) for kernel in kernels]


def _groups_of_ops(graph: OpGraph, find: Callable[[str], str | None]) -> Mapping[str, tuple[str, ...]]:
    held: dict[str, str | None] = {}  # by value: whose channels it holds
    found: dict[str, tuple[str, ...]] = {}
    for op in graph.ops:
        read = held.get(op.inputs[0])
        if op.op in CONVOLUTIONS and op.groups == 1:
            written = find(op.module)
            found[op.name] = tuple(root for root in (read, written) if root is not None)
        else:
            joined = {
                held.get(value) for value in op.inputs if graph.shapes[value][1:2] == graph.shapes[op.outputs[0]][1:2]
            }
            written = joined.pop() if len(joined) == 1 else None
            found[op.name] = () if written is None else (written,)
        held.update(dict.fromkeys(op.outputs, written))
    return found
