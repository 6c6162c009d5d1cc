"""Allocation of sparsity to channel groups at the cost of uniform pruning, with the least loss of quality.

All inputs are known before training: costs come from a traced network (MACs, or predicted milliseconds per kernel),
sensitivities from the pruned ratios or from pretrained weights. The pruned shape is therefore known when a candidate
is proposed, and is reproducible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from search_spaces.pruning.groups import ChannelGroup
from search_spaces.pruning.prune import CHANNEL_MULTIPLE, kept_channels

Sensitivity = Callable[[ChannelGroup, int], float]
"""Estimated loss of quality for a group with a number of kept channels: 0 for all of them, larger for fewer."""


@dataclass(frozen=True)
class CostTerm:
    """Cost of one unpruned kernel; pruned, it is multiplied by the ratio of kept channels of each group.

    Attributes:
        cost: ms, or MACs.
        groups: roots of the groups of its input and output channels; a dense convolution has two, a depthwise one has one.
    """

    cost: float
    groups: tuple[str, ...]


def allocate_sparsity(
    groups: Sequence[ChannelGroup],
    terms: Iterable[CostTerm],
    ratio: float,
    *,
    multiple: int = CHANNEL_MULTIPLE,
    sensitivity: Sensitivity | None = None,
    share: float = 1.0,
) -> dict[str, int]:
    """Make a plan that costs at most ``share`` times the uniform plan at ``ratio``.

    Greedy, as NetAdapt (arXiv 1804.03230) with predicted costs: one channel multiple at a time is removed from the group with
    the largest saving per sensitivity. Every group keeps at least half of its channels in the uniform plan, even if ``share``
    is not reached.

    Args:
        sensitivity: `uniform_sensitivity` by default.
    """
    sensitivity = sensitivity or uniform_sensitivity
    costs = _Costs(groups, terms)
    target = share * costs.total({group.root: kept_channels(group.channels, ratio, multiple) for group in groups})
    least = {group.root: kept_channels(group.channels, (1.0 + ratio) / 2.0, multiple) for group in groups}
    plan = {group.root: group.channels for group in groups}
    while costs.total(plan) > target * (1.0 + 1e-9):
        best: tuple[float, str, int] | None = None
        for group in groups:
            now = plan[group.root]
            lower = max((now - 1) // multiple * multiple, least[group.root])
            if lower >= now:
                continue
            saved = costs.of_group(group.root, plan) * (1.0 - lower / now)
            worth = saved / max(sensitivity(group, lower) - sensitivity(group, now), 1e-12)
            if best is None or worth > best[0]:
                best = (worth, group.root, lower)
        if best is None:
            break
        plan[best[1]] = best[2]
    return plan


def uniform_sensitivity(group: ChannelGroup, kept: int) -> float:
    """Sensitivity by the kept ratio: each halving of a group counts the same, whatever its size."""
    return -math.log(kept / group.channels)


def score_sensitivity(scores: Mapping[str, Sequence[float]]) -> Sensitivity:
    """Sensitivity by importance scores: each halving of a group's summed scores counts the same, lowest scores pruned first.

    Equals `uniform_sensitivity` for a layer with equal scores; lower for a layer with many unimportant filters, as the
    sensitivity from sorted filter norms of arXiv 1608.08710.

    Args:
        scores: of every group's channels, by root (``scores.channel_scores``).
    """
    lost: dict[str, list[float]] = {}
    for root, values in scores.items():
        total = sum(values) or 1.0
        sums = [0.0]
        for value in sorted(values):
            sums.append(sums[-1] + value / total)
        lost[root] = sums
    return lambda group, kept: -math.log(max(1.0 - lost[group.root][group.channels - kept], 1e-12))


class _Costs:
    def __init__(self, groups: Sequence[ChannelGroup], terms: Iterable[CostTerm]) -> None:
        self._channels = {group.root: group.channels for group in groups}
        self._terms = [(term.cost, tuple(root for root in term.groups if root in self._channels)) for term in terms]
        self._of: dict[str, list[tuple[float, tuple[str, ...]]]] = {root: [] for root in self._channels}
        for term in self._terms:
            for root in set(term[1]):
                self._of[root].append(term)

    def total(self, plan: Mapping[str, int]) -> float:
        return sum(self._cost(term, plan) for term in self._terms)

    def of_group(self, root: str, plan: Mapping[str, int]) -> float:
        """Cost of all kernels that depend on a group."""
        return sum(self._cost(term, plan) for term in self._of[root])

    def _cost(self, term: tuple[float, tuple[str, ...]], plan: Mapping[str, int]) -> float:
        cost, roots = term
        for root in roots:
            cost *= plan[root] / self._channels[root]
        return cost
