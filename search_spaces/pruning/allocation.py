"""How much each group of channels gives, so that the network costs what uniform pruning would make it cost, at less harm.

Nothing here depends on a training: the costs come from a traced network (MACs, or a latency model's milliseconds per
kernel), the harm from the shares that leave or from weights that are there before training. So the pruned shape is known
to the latency gate, and the same for every repetition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from search_spaces.pruning.groups import ChannelGroup
from search_spaces.pruning.prune import CHANNEL_MULTIPLE, kept_channels

Sensitivity = Callable[[ChannelGroup, int], float]
"""What it costs in quality to leave a group so many channels: 0 for all of them, more the fewer."""


@dataclass(frozen=True)
class CostTerm:
    """What one kernel costs unpruned. Pruned it costs ``cost`` times the share of the channels kept in each of ``groups``.

    Attributes:
        cost: ms, or MACs.
        groups: roots of the groups whose channels it reads and writes; a dense convolution has two, a depthwise one has one.
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
    """The plan that costs at most ``share`` of what the uniform one at ``ratio`` costs, made by taking channels, one multiple at a time,
    from the group that saves most for its harm (a greedy walk as in NetAdapt, arXiv 1804.03230, over predicted costs).

    No group keeps less than half of what it would keep uniformly; where ``share`` asks for more, that is where it ends.

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
    """Every halving of a group does the same harm, whatever its size."""
    return -math.log(kept / group.channels)


def score_sensitivity(scores: Mapping[str, Sequence[float]]) -> Sensitivity:
    """Every halving of a group's summed scores does the same harm, when its weakest channels leave first.

    For a layer whose filters are all alike that is `uniform_sensitivity`; one with many weak filters gives them up for little: the
    sensitivity that arXiv 1608.08710 reads from sorted filter norms.

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
        """The cost of all kernels that shrink with a group."""
        return sum(self._cost(term, plan) for term in self._of[root])

    def _cost(self, term: tuple[float, tuple[str, ...]], plan: Mapping[str, int]) -> float:
        cost, roots = term
        for root in roots:
            cost *= plan[root] / self._channels[root]
        return cost
