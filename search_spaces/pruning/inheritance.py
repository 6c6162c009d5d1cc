"""Transfer of a trained network's weights to a wider, narrower or otherwise related one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.pruning.groups import ChannelGroup, GroupSelection
from search_spaces.pruning.prune import channel_groups, remove_channels, weakest
from search_spaces.pruning.scores import channel_dimension

_ENCODER = "encoder."


def inherit_weights(net: SegmentationNet, donor: SegmentationNet, *, encoder_only: bool = False) -> float:
    """Copy the weights of ``donor`` into ``net`` in place where both have the layer; return the share of net's elements that were.

    Of each group of coupled channels as many are copied as the smaller network has: the donor's with the largest L1 norms. Where
    ``net`` has more, the others keep their values but feed nothing into the copied ones, so that a network that is wider than its
    donor throughout computes the same logits. Deterministic.

    Args:
        net: unpruned.
        donor: trained, pruned or not, on the CPU; is changed.
        encoder_only: leave the decoder as it is.
    """
    index = _indices_of(net)
    donor.prune_ratio = 0.0  # a pruned donor is pruned further, as if it were built this way
    groups, own = ({group.root: group for group in channel_groups(item)} for item in (donor, index))
    shared = {
        root: min(group.channels, own[root].channels)
        for root, group in groups.items()
        if root in own and (root.startswith(_ENCODER) or not encoder_only)
    }
    remove_channels(donor, weakest(donor, groups.values(), shared), 0.0)
    remove_channels(index, [_all_but_first(own[root], kept) for root, kept in shared.items()], 0.0)
    values, positions, targets = donor.state_dict(), index.state_dict(), net.state_dict()
    modules = dict(net.named_modules())
    copied = total = 0
    for name, target in targets.items():
        total += target.numel()
        value, position = values.get(name), positions[name]
        if value is None or value.shape != position.shape or (encoder_only and not name.startswith(_ENCODER)):
            continue
        _place(modules[name.rpartition(".")[0]], target, value, position.long())
        copied += value.numel()
    return copied / total


def _indices_of(net: SegmentationNet) -> SegmentationNet:
    """Copy ``net`` with each element replaced by its flat index in its tensor, which pruning then selects from."""
    index = copy.deepcopy(net).cpu().double()
    for tensor in index.state_dict().values():
        tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape))
    return index


def _all_but_first(group: ChannelGroup, kept: int) -> GroupSelection:
    return group.without(range(kept, group.channels))


def _place(module: nn.Module, target: Tensor, value: Tensor, position: Tensor) -> None:
    """Write ``value`` to the flat ``position``s of ``target``, a tensor of ``module``; other inputs of these outputs become 0."""
    flat, position = target.view(-1), position.to(target.device)
    if target.dim() > 1 and position.numel() < target.numel():
        axis = channel_dimension(module)
        outputs = torch.unique(position // target.stride(axis) % target.shape[axis])
        target.index_fill_(axis, outputs, 0.0)
    flat[position.view(-1)] = value.to(target).reshape(-1)
