"""Groups of coupled channels: output channels of several layers that can only be removed together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

_ROOTS = [nn.Conv2d, nn.ConvTranspose2d]


@dataclass(frozen=True)
class GroupMember:
    """Module with coupled outputs: output ``rows[i]`` belongs to the root's channel ``root_rows[i]``."""

    name: str
    rows: tuple[int, ...]
    root_rows: tuple[int, ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Coupled channels, which can only be removed together.

    Attributes:
        root: name of the convolution whose output channels number the group's channels.
        channels: number of channels of the group.
        members: all modules with coupled outputs, including the root.
    """

    root: str
    channels: int
    members: tuple[GroupMember, ...]

    def without(self, removed: Iterable[int]) -> GroupSelection:
        """Select the root's channels ``removed`` of this group for removal."""
        leaving = frozenset(removed)
        members = tuple(
            (
                member.name,
                tuple(sorted(row for row, of in zip(member.rows, member.root_rows, strict=True) if of in leaving)),
            )
            for member in self.members
        )
        return GroupSelection(self.root, self.channels, tuple(sorted(leaving)), members)


@dataclass(frozen=True)
class GroupSelection:
    """Channels of a group selected for removal.

    Attributes:
        root: name of the convolution whose output channels number the group's channels.
        channels: number of channels of the group.
        removed: the root's output channels to remove, ascending.
        members: name and output channels to remove of each module with coupled outputs.
    """

    root: str
    channels: int
    removed: tuple[int, ...]
    members: tuple[tuple[str, tuple[int, ...]], ...]


def coupled_groups(net: nn.Module, graph: Any, ignored: Iterable[nn.Module] = ()) -> tuple[ChannelGroup, ...]:
    """Find the groups in torch-pruning's dependency graph of ``net``, except those of ``ignored`` layers."""
    names = {module: name for name, module in net.named_modules()}
    found = []
    for group in graph.get_all_groups(ignored_layers=list(ignored), root_module_types=_ROOTS):
        members = tuple(
            GroupMember(names[item.dep.target.module], tuple(item.idxs), tuple(item.root_idxs))
            for item in group.items
            if item.dep.target.module in names and graph.is_out_channel_pruning_fn(item.dep.handler)
        )
        found.append(ChannelGroup(names[group[0].dep.target.module], len(group[0].idxs), members))
    return tuple(found)
