"""Structured pruning: removal of whole channels together with all channels coupled to them.

torch-pruning's dependency graph finds the groups of coupled channels. The number of channels to keep does not depend on
the weights: the same ratio of every group (``uniform_plan``), or a plan from ``allocation``. The channels to remove are
those with the lowest scores (``scores``), or are selected by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.pruning.groups import ChannelGroup, GroupSelection, coupled_groups
from search_spaces.pruning.scores import channel_dimension, channel_scores

CHANNEL_MULTIPLE = 8
_TRACE_HW = (64, 64)

Plan = Mapping[str, int]
"""Number of channels to keep by root of the group; groups that are not named keep all."""


def kept_channels(channels: int, ratio: float, multiple: int = CHANNEL_MULTIPLE) -> int:
    """Number of channels to keep: the multiple nearest to ``channels * (1 - ratio)``, at least one multiple, at most all."""
    nearest = int(channels * (1.0 - ratio) / multiple + 0.5) * multiple
    return min(channels, max(multiple, nearest))


def channel_groups(net: SegmentationNet) -> tuple[ChannelGroup, ...]:
    """Find the groups of coupled channels of ``net``, except its classifiers. Works on the meta device."""
    with _traced(net) as graph:
        return coupled_groups(net, graph, net.classifiers)


def uniform_plan(groups: Iterable[ChannelGroup], ratio: float, multiple: int = CHANNEL_MULTIPLE) -> dict[str, int]:
    """Make the plan that prunes the same ratio of every group.

    Raises:
        ValueError: the ratio is not in [0, 1).
    """
    _check_ratio(ratio)
    return {group.root: kept_channels(group.channels, ratio, multiple) for group in groups}


def select_channels(
    net: SegmentationNet, ratio: float, *, plan: Plan | None = None, method: str = "l1", seed: int = 0
) -> tuple[GroupSelection, ...]:
    """Select the channels to prune from ``net``, lowest scores first, without changing it.

    Args:
        ratio: ratio of every group to prune if there is no plan.
        plan: number of channels to keep of each group.
        method: importance score, a key of ``scores.METHODS``.
        seed: of the scores of method ``random``.

    Raises:
        ValueError: the ratio is not in [0, 1), or the method is unknown.
    """
    groups = channel_groups(net)
    return weakest(net, groups, uniform_plan(groups, ratio) if plan is None else plan, method, seed)


def weakest(
    net: nn.Module, groups: Iterable[ChannelGroup], plan: Plan, method: str = "l1", seed: int = 0
) -> tuple[GroupSelection, ...]:
    """Select from each group the channels with the lowest scores, as many as the plan does not keep."""
    modules = dict(net.named_modules())
    selections = []
    for group in groups:
        count = group.channels - plan.get(group.root, group.channels)
        if count > 0:
            order = torch.argsort(channel_scores(modules, group, method, seed), stable=True)
            selections.append(group.without(order[:count].tolist()))
    return tuple(selections)


def prune_network(
    net: SegmentationNet,
    ratio: float,
    *,
    plan: Plan | None = None,
    method: str = "l1",
    seed: int = 0,
) -> SegmentationNet:
    """Remove channels from ``net`` in place; returns it. Ratio 0 changes nothing. Arguments as in `select_channels`.

    Raises:
        ValueError: the ratio is not in [0, 1), or the network was pruned before.
    """
    _check_ratio(ratio)
    if ratio == 0.0:
        return net
    _check_whole(net)
    # Selected before anything is removed, so that the selection does not depend on the order of the groups.
    return remove_channels(net, select_channels(net, ratio, plan=plan, method=method, seed=seed), ratio)


def remove_channels(net: SegmentationNet, selections: Iterable[GroupSelection], ratio: float) -> SegmentationNet:
    """Remove the selected channels from ``net`` in place and set its ``prune_ratio``; returns it.

    Raises:
        ValueError: the network was pruned before.
    """
    _check_whole(net)
    with _traced(net) as graph:
        modules = dict(net.named_modules())
        for selection in selections:
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


def fit_shape(net: SegmentationNet, state: Mapping[str, Tensor]) -> SegmentationNet:
    """Prune an unpruned ``net`` in place to the shapes of a state dict; returns it.

    The selection of channels is arbitrary, since the weights are replaced next. A state dict of another network is not
    detected here; ``load_state_dict`` raises then.
    """
    mine = net.state_dict()
    if all(name not in state or state[name].shape == value.shape for name, value in mine.items()):
        return net
    modules = dict(net.named_modules())
    groups = [group for group in channel_groups(net) if f"{group.root}.weight" in state]
    stay = {
        group.root: min(state[f"{group.root}.weight"].shape[channel_dimension(modules[group.root])], group.channels)
        for group in groups
    }
    selections = [
        group.without(range(stay[group.root], group.channels)) for group in groups if stay[group.root] < group.channels
    ]
    before = sum(group.channels for group in groups)
    return remove_channels(net, selections, 1.0 - sum(stay.values()) / before) if selections else net


def _check_ratio(ratio: float) -> None:
    if not 0.0 <= ratio < 1.0:
        raise ValueError(f"a prune ratio is at least 0 and below 1, got {ratio}")


def _check_whole(net: SegmentationNet) -> None:
    if net.prune_ratio:
        raise ValueError(f"the network was pruned by {net.prune_ratio} already; prune a network as built, once")


@contextmanager
def _traced(net: SegmentationNet) -> Iterator[Any]:
    """Context with a dependency graph of ``net``; restores the modules' modes, which tracing sets to evaluation."""
    modes = {module: module.training for module in net.modules()}
    reference = next(net.parameters())
    image = torch.zeros(1, 3, *_TRACE_HW, device=reference.device, dtype=reference.dtype)
    try:
        with torch.enable_grad():
            yield torch_pruning.DependencyGraph().build_dependency(net, example_inputs=image, verbose=False)
    finally:
        for module, training in modes.items():
            module.training = training
