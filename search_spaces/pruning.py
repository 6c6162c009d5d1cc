"""Structured pruning as a change of shape: whole channels leave, together with all that is coupled to them.

torch-pruning's dependency graph finds which channels of which layers must go together (a group). How many stay
depends on the ratio alone; which stay is decided by the L1 norm of their filters (arXiv 1608.08710).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from search_spaces.networks import SegmentationNet

CHANNEL_MULTIPLE = 8
_TRACE_HW = (64, 64)


@dataclass(frozen=True)
class GroupSelection:
    """What is to leave one group of coupled channels.

    Attributes:
        root: name of the convolution that gives the group its channel numbers.
        channels: how many channels the group has.
        removed: the root's output channels that leave, ascending.
        members: for each module whose outputs are coupled, its name and those of its output channels that leave.
    """

    root: str
    channels: int
    removed: tuple[int, ...]
    members: tuple[tuple[str, tuple[int, ...]], ...]


def kept_channels(channels: int, ratio: float) -> int:
    """How many of ``channels`` stay: the multiple of 8 nearest to ``channels * (1 - ratio)``, at least 8, never more
    than there are."""
    nearest = int(channels * (1.0 - ratio) / CHANNEL_MULTIPLE + 0.5) * CHANNEL_MULTIPLE
    return min(channels, max(CHANNEL_MULTIPLE, nearest))


def select_channels(net: SegmentationNet, ratio: float) -> tuple[GroupSelection, ...]:
    """Choose the channels that leave ``net`` at ``ratio``, without changing it.

    Raises:
        ValueError: the ratio is not in [0, 1).
    """
    if not 0.0 <= ratio < 1.0:
        raise ValueError(f"a prune ratio is at least 0 and below 1, got {ratio}")
    with _traced(net) as graph:
        return _select(net, graph, ratio)


def prune_network(net: SegmentationNet, ratio: float) -> SegmentationNet:
    """Remove channels from ``net`` in place; returns it. Ratio 0 leaves it untouched.

    Raises:
        ValueError: the ratio is not in [0, 1), or the network was pruned before (its shape would depend on how often).
    """
    if not 0.0 <= ratio < 1.0:
        raise ValueError(f"a prune ratio is at least 0 and below 1, got {ratio}")
    if ratio == 0.0:
        return net
    if net.prune_ratio:
        raise ValueError(f"the network was pruned by {net.prune_ratio} already; prune a network as built, once")
    with _traced(net) as graph:
        modules = dict(net.named_modules())
        # Chosen before anything is removed, so that no choice depends on the order of the groups.
        for selection in _select(net, graph, ratio):
            root = modules[selection.root]
            remove = graph.get_pruner_of_module(root).prune_out_channels
            graph.get_pruning_group(root, remove, list(selection.removed)).prune()
            wanted = selection.channels - len(selection.removed)
            if root.out_channels != wanted:
                raise RuntimeError(f"pruning {selection.root} left {root.out_channels} channels, wanted {wanted}")
    for parameter in net.parameters():
        parameter.grad = None
    net.prune_ratio = ratio
    return net


@contextmanager
def _traced(net: SegmentationNet) -> Iterator[Any]:
    """A dependency graph of ``net``; each module's mode is put back afterwards (tracing switches to evaluation)."""
    modes = {module: module.training for module in net.modules()}
    reference = next(net.parameters())
    image = torch.zeros(1, 3, *_TRACE_HW, device=reference.device, dtype=reference.dtype)
    try:
        with torch.enable_grad():
            yield torch_pruning.DependencyGraph().build_dependency(net, example_inputs=image, verbose=False)
    finally:
        for module, training in modes.items():
            module.training = training


def _select(net: SegmentationNet, graph: Any, ratio: float) -> tuple[GroupSelection, ...]:
    names = {module: name for name, module in net.named_modules()}
    selections = []
    for group in graph.get_all_groups(ignored_layers=list(net.classifiers), root_module_types=[nn.Conv2d]):
        channels = len(group[0].idxs)
        count = channels - kept_channels(channels, ratio)
        if count == 0:
            continue
        order = torch.argsort(l1_importance(graph, group, channels), stable=True)
        removed = frozenset(order[:count].tolist())
        members = tuple(
            (
                names[item.dep.target.module],
                tuple(sorted(i for i, r in zip(item.idxs, item.root_idxs, strict=True) if r in removed)),
            )
            for item in group.items
            if item.dep.target.module in names and graph.is_out_channel_pruning_fn(item.dep.handler)
        )
        selections.append(GroupSelection(names[group[0].dep.target.module], channels, tuple(sorted(removed)), members))
    return tuple(selections)


def l1_importance(graph: Any, group: Any, channels: int) -> Tensor:
    """L1 norm of each channel's filter, averaged over the coupled convolutions after dividing each by its own mean."""
    total = torch.zeros(channels, dtype=torch.float64)
    for item in group.items:
        module = item.dep.target.module
        if not isinstance(module, nn.Conv2d) or not graph.is_out_channel_pruning_fn(item.dep.handler):
            continue
        norms = module.weight.detach().abs().flatten(1).sum(1).to("cpu", torch.float64)[list(item.idxs)]
        total.index_add_(0, torch.tensor(item.root_idxs), norms / norms.mean().clamp_min(1e-12))
    return total
