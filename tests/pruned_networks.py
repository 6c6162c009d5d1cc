"""Helpers of the pruning tests."""

from __future__ import annotations

import copy

import torch
from torch import nn

from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.pruning.prune import channel_groups, kept_channels, select_channels
from search_spaces.pruning.scores import channel_dimension


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}


def uneven(net: SegmentationNet) -> dict[str, int]:
    """A plan whose groups keep different shares."""
    return {
        group.root: kept_channels(group.channels, (0.2, 0.5, 0.7)[index % 3])
        for index, group in enumerate(channel_groups(net))
    }


def zeroed(net: SegmentationNet, ratio: float) -> SegmentationNet:
    """The network as it is, but that the channels which pruning takes away give nothing any more."""
    dense = copy.deepcopy(net)
    modules = dict(dense.named_modules())
    for selection in select_channels(net, ratio):
        for name, channels in selection.members:
            module = modules[name]
            for parameter in module.parameters(recurse=False):
                along = channel_dimension(module) if parameter.dim() == 4 else 0
                parameter.data.index_fill_(along, torch.tensor(channels, dtype=torch.long), 0.0)
    return dense
