"""Pruning during a training: optional ADMM, then channels are removed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.pruning.prune import Plan, channel_groups, prune_network, remove_channels, uniform_plan
from trial_runner.config.study import PruningSection
from trial_runner.training.admm import Admm


class PruningStage:
    """The part of a training up to its pruning.

    Args:
        ratio: of pruned channels; above 0.
        plan: channels kept in each group; None for the same ratio in each.
        cut_epoch: epochs after which the network is pruned.
        seed: of the method ``random``.
    """

    def __init__(
        self, config: PruningSection, ratio: float, plan: Mapping[str, int] | None, *, cut_epoch: int, seed: int
    ) -> None:
        self._config, self._ratio, self._plan, self._cut_epoch, self._seed = config, ratio, plan, cut_epoch, seed
        self._admm: Admm | None = None

    def after_step(self, net: SegmentationNet, optimizer: torch.optim.Optimizer, epoch: float) -> None:
        """Run the ADMM step after an optimizer step; ``epoch`` counts from 0, with fractions."""
        if self._config.method != "admm":
            return
        start = self._config.admm.start_after * self._cut_epoch
        if epoch < start:
            return
        if self._admm is None:
            self._admm = Admm(net, self._plan_for(net), self._config.admm)
        self._admm.step(net, optimizer)
        due = int(self._config.admm.updates * (epoch - start) / (self._cut_epoch - start))
        if due > self._admm.updates:
            self._admm.update(net)

    def cut(self, net: SegmentationNet) -> SegmentationNet:
        """Remove channels in place: those selected by ADMM, where it ran, else those with the lowest scores."""
        if self._admm is not None:
            return remove_channels(net, self._admm.selections, self._ratio)
        method = "l1" if self._config.method == "admm" else self._config.method
        return prune_network(net, self._ratio, plan=self._plan_for(net), method=method, seed=self._seed)

    def state(self) -> dict[str, Any] | None:
        """Return the state for a checkpoint; None without ADMM."""
        return self._admm.state() if self._admm else None

    def load(self, net: SegmentationNet, state: dict[str, Any]) -> None:
        self._admm = Admm(net, self._plan_for(net), self._config.admm)
        self._admm.load(net, state)

    def _plan_for(self, net: SegmentationNet) -> Plan:
        return self._plan or uniform_plan(channel_groups(net), self._ratio, self._config.channel_multiple)
