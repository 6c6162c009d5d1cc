"""Costs of a network's kernels as functions of its channel groups, for the allocation of sparsity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hw_latency_model.kernels.fusion import FusionRules, fuse
from hw_latency_model.kernels.op_graph import CONVOLUTIONS, OpGraph
from hw_latency_model.types import KernelSpec
from search_spaces.pruning.allocation import CostTerm
from search_spaces.pruning.groups import ChannelGroup

_MERGED = "reparam"
"""Name in timm of a convolution that training-time branches were merged into."""


def group_of_convolutions(groups: Sequence[ChannelGroup]) -> Callable[[str], str | None]:
    """Map the name of a convolution's module to the root of its group; None for one whose channels are not pruned.

    A convolution that branches were merged into (RepVGG) is identified by its sibling branches.
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
    """Pair each kernel's cost with the channel groups that scale it; none for a kernel whose channels cannot be followed.

    Args:
        graph: graph of the unpruned network.
        costs: cost of each kernel, in any unit.
    """
    kernels = fuse(graph, rules)
    shrinks = _groups_of_ops(graph, group_of_convolutions(groups))
    return [
        CostTerm(float(cost), shrinks.get(kernel.name.partition("+")[0], ()))
        for kernel, cost in zip(kernels, costs(kernels), strict=True)
    ]


def macs_of(kernels: Sequence[KernelSpec]) -> list[float]:
    """Return the multiply-accumulates as costs."""
    return [float(kernel.macs) for kernel in kernels]


def _groups_of_ops(graph: OpGraph, find: Callable[[str], str | None]) -> Mapping[str, tuple[str, ...]]:
    held: dict[str, str | None] = {}  # by value: the group of its channels
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
