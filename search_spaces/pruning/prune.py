"""Structured pruning as a change of shape: whole channels leave, together with all that is coupled to them.

torch-pruning's dependency graph finds which channels of which layers must go together (a group). How many stay of each is
known without its weights: the same share of every group (``uniform_plan``), or a plan made beforehand
(``allocation``). Which of them stay is decided by a score (``scores``), or by the caller.
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
"""How many channels of a group stay, by the name of its root; groups that are not named keep all."""


def kept_channels(channels: int, ratio: float, multiple: int = CHANNEL_MULTIPLE) -> int:
    """How many of ``channels`` stay: the multiple nearest to ``channels * (1 - ratio)``, at least one multiple, never
    more than there are."""
    nearest = int(channels * (1.0 - ratio) / multiple + 0.5) * multiple
    return min(channels, max(multiple, nearest))


def channel_groups(net: SegmentationNet) -> tuple[ChannelGroup, ...]:
    """The groups of coupled channels of ``net``, classifiers left out, without changing it. Works on the meta device."""
    with _traced(net) as graph:
        return coupled_groups(net, graph, net.classifiers)


def uniform_plan(groups: Iterable[ChannelGroup], ratio: float, multiple: int = CHANNEL_MULTIPLE) -> dict[str, int]:
    """The plan that takes the same share out of every group.

    Raises:
        ValueError: the ratio is not in [0, 1).
    """
    _check_ratio(ratio)
    return {group.root: kept_channels(group.channels, ratio, multiple) for group in groups}


def select_channels(
    net: SegmentationNet, ratio: float, *, plan: Plan | None = None, method: str = "l1", seed: int = 0
) -> tuple[GroupSelection, ...]:
    """Choose the channels that leave ``net``, the lowest scores first, without changing it.

    Args:
        ratio: share of every group that leaves, where there is no plan.
        plan: how many stay of each group.
        method: how channels are scored, a key of ``scores.METHODS``.
        seed: of the scores of method ``random``.

    Raises:
        ValueError: the ratio is not in [0, 1), or the method is not known.
    """
    groups = channel_groups(net)
    return weakest(net, groups, uniform_plan(groups, ratio) if plan is None else plan, method, seed)


def weakest(
    net: nn.Module, groups: Iterable[ChannelGroup], plan: Plan, method: str = "l1", seed: int = 0
) -> tuple[GroupSelection, ...]:
    """Of each group the channels with the lowest scores, as many as the plan does not keep."""
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
    """Remove channels from ``net`` in place; returns it. Ratio 0 leaves it untouched. Arguments as in `select_channels`.

    Raises:
        ValueError: the ratio is not in [0, 1), or the network was pruned before (its shape would depend on how often).
    """
    _check_ratio(ratio)
    if ratio == 0.0:
        return net
    _check_whole(net)
    # Chosen before anything is removed, so that no choice depends on the order of the groups.
    return remove_channels(net, select_channels(net, ratio, plan=plan, method=method, seed=seed), ratio)


def remove_channels(net: SegmentationNet, selections: Iterable[GroupSelection], ratio: float) -> SegmentationNet:
    """Take the selected channels out of ``net`` in place; returns it, with ``ratio`` noted as its ``prune_ratio``.

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
    """Prune ``net``, as built, in place to the shape that a state dict was saved from; returns it.

    Which channels leave is arbitrary: their weights are about to be replaced. Where the state is of another network,
    ``load_state_dict`` is left to say so.
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
