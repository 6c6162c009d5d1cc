"""Importance scores of the channels of a group; the lowest are pruned first."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from search_spaces.pruning.groups import ChannelGroup

_Convolution = nn.Conv2d | nn.ConvTranspose2d


def channel_scores(modules: Mapping[str, nn.Module], group: ChannelGroup, method: str = "l1", seed: int = 0) -> Tensor:
    """Compute one score per channel of the root, float64 on the CPU.

    Scores of coupled layers are summed after dividing each layer's scores by their mean.

    Args:
        modules: the network's modules by name.
        method: a key of ``METHODS``.
        seed: seed of method ``random``.

    Raises:
        ValueError: the method is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"channels are scored by one of {', '.join(METHODS)}, got {method!r}")
    return METHODS[method](modules, group, seed)


def channel_dimension(module: nn.Module) -> int:
    """Dimension of ``module.weight`` that indexes output channels."""
    return 1 if isinstance(module, nn.ConvTranspose2d) and module.groups == 1 else 0


def _l1(modules: Mapping[str, nn.Module], group: ChannelGroup, seed: int) -> Tensor:
    """L1 norm of each channel's filter (arXiv 1608.08710)."""
    return _filters(modules, group, lambda filters: filters.abs().sum(1))


def _l2(modules: Mapping[str, nn.Module], group: ChannelGroup, seed: int) -> Tensor:
    """L2 norm of each channel's filter."""
    return _filters(modules, group, lambda filters: filters.square().sum(1).sqrt())


def _geometric_median(modules: Mapping[str, nn.Module], group: ChannelGroup, seed: int) -> Tensor:
    """Summed distance of each filter to all others of its layer: redundant filters score low (arXiv 1811.00250)."""
    return _filters(modules, group, lambda filters: torch.cdist(filters, filters).sum(1))


def _bn_scale(modules: Mapping[str, nn.Module], group: ChannelGroup, seed: int) -> Tensor:
    """Scale of each channel in batch normalisation (arXiv 1708.06519); L1 norms for a group without batch norm."""
    scales = [
        (module.weight, member.rows, member.root_rows)
        for member in group.members
        if isinstance(module := modules[member.name], nn.BatchNorm2d) and module.weight is not None
    ]
    if not scales:
        return _l1(modules, group, seed)
    total = torch.zeros(group.channels, dtype=torch.float64)
    for weight, rows, root_rows in scales:
        _add(total, weight.detach().abs(), rows, root_rows)
    return total


def _random(modules: Mapping[str, nn.Module], group: ChannelGroup, seed: int) -> Tensor:
    """Random scores from the seed and the group's name, as a baseline."""
    generator = torch.Generator().manual_seed(seed * 0x1000003 + zlib.crc32(group.root.encode()))
    return torch.rand(group.channels, generator=generator, dtype=torch.float64)


def _filters(modules: Mapping[str, nn.Module], group: ChannelGroup, norm: Callable[[Tensor], Tensor]) -> Tensor:
    total = torch.zeros(group.channels, dtype=torch.float64)
    for member in group.members:
        module = modules[member.name]
        if isinstance(module, _Convolution):
            filters = module.weight.detach().transpose(0, channel_dimension(module)).flatten(1)
            _add(total, norm(filters), member.rows, member.root_rows)
    return total


def _add(total: Tensor, values: Tensor, rows: tuple[int, ...], root_rows: tuple[int, ...]) -> None:
    scores = values.to("cpu", torch.float64)[list(rows)]
    total.index_add_(0, torch.tensor(root_rows), scores / scores.mean().clamp_min(1e-12))


METHODS: dict[str, Callable[[Mapping[str, nn.Module], ChannelGroup, int], Tensor]] = {
    "l1": _l1,
    "l2": _l2,
    "bn_scale": _bn_scale,
    "geometric_median": _geometric_median,
    "random": _random,
}
