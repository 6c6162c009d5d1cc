"""ADMM pruning (arXiv 1804.03294), structured to filters: channels are driven to zero during training, then removed.

The loss f is minimised under the constraint that of each group of coupled channels only so many are other than zero:

    W  <-  argmin f(W) + rho/2 ||W - Z + U||^2   over many steps of the training: after each step of the optimizer on f, one
                                                 proximal step on the rest, with the optimizer's learning rate
    Z  <-  projection of W + U on the constraint
    U  <-  U + W - Z

W are the weights, biases and normalisation of everything that is coupled to a channel: a filter alone could shrink without
any effect before a batch normalisation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.pruning.groups import GroupSelection
from search_spaces.pruning.prune import Plan, channel_groups, weakest
from search_spaces.pruning.scores import channel_dimension
from trial_runner.config.study import AdmmSection


class Admm:
    """The auxiliary variables of one training, from the first step with them to the network's cut.

    Z equals W except for the channels to be pruned, where it is zero; so U is zero except for those, and only they are penalised.
    They are selected by the L1 norms of W, first at the start and again at each update in the first half of the updates; norms of
    W + U, as in the plain projection, would exchange nearly all of them every time.

    Args:
        net: as it trains, not yet pruned.
        plan: how many channels of each group stay.

    Attributes:
        updates: how many updates of Z and U there were.
        rho: the penalty's weight now.
        selections: the channels to be pruned.
    """

    def __init__(self, net: SegmentationNet, plan: Plan, config: AdmmSection) -> None:
        self._groups, self._plan, self._config = channel_groups(net), plan, config
        self.updates = 0
        self.rho = config.rho
        self._dual: dict[str, Tensor] = {}
        self._select(net, weakest(net, self._groups, plan))

    @torch.no_grad()
    def step(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Apply the proximal step after the optimizer's: W <- (W + lr rho (Z - U)) / (1 + lr rho)."""
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        parameters = dict(net.named_parameters())
        for name, mask in self._pruned_masks.items():
            parameter = parameters[name]
            strength = self.rho * rates[id(parameter)]
            pulled = parameter * mask + self._dual[name]
            parameter.sub_(pulled, alpha=strength / (1.0 + strength))

    @torch.no_grad()
    def update(self, net: SegmentationNet) -> None:
        """Update Z and U from W; rho grows, and U, in units of 1 / rho, shrinks."""
        self.updates += 1
        if 2 * self.updates <= self._config.updates:
            self._select(net, weakest(net, self._groups, self._plan))
        growth = self._config.rho_growth
        for name, parameter in net.named_parameters():
            if name in self._pruned_masks:
                self._dual[name] = (parameter + self._dual[name]) * self._pruned_masks[name] / growth
        self.rho *= growth

    @torch.no_grad()
    def residual(self, net: nn.Module) -> float:
        """Return the constraint residual ||W - Z|| / ||W||; 0 when all channels to be pruned are zero."""
        parameters = dict(net.named_parameters())
        left = sum(float((parameters[name] * rows).square().sum()) for name, rows in self._pruned_masks.items())
        whole = sum(float(parameters[name].square().sum()) for name in self._pruned_masks)
        return float((left / max(whole, 1e-30)) ** 0.5)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint: plain values and tensors."""
        removed = {selection.root: list(selection.removed) for selection in self.selections}
        return {"updates": self.updates, "rho": self.rho, "removed": removed, "dual": dict(self._dual)}

    def load(self, net: SegmentationNet, state: dict[str, Any]) -> None:
        """Restore what `state` returned for the same network."""
        self.updates, self.rho = int(state["updates"]), float(state["rho"])
        removed = state["removed"]
        self._dual = {}
        self._select(net, tuple(group.without(removed[group.root]) for group in self._groups if group.root in removed))
        for name, value in state["dual"].items():
            self._dual[name].copy_(value)

    def _select(self, net: SegmentationNet, selections: tuple[GroupSelection, ...]) -> None:
        self.selections = selections
        self._pruned_masks = _pruned_rows(net, selections)
        parameters = dict(net.named_parameters())
        for name in self._pruned_masks:
            self._dual.setdefault(name, torch.zeros_like(parameters[name], requires_grad=False))


def _pruned_rows(net: nn.Module, selections: tuple[GroupSelection, ...]) -> dict[str, Tensor]:
    """Return masks by parameter name: 1 for the rows of coupled channels to be pruned, else 0; broadcastable to the parameter."""
    modules = dict(net.named_modules())
    found = {}
    for selection in selections:
        for module_name, rows in selection.members:
            for name, parameter in modules[module_name].named_parameters(recurse=False):
                dimension = channel_dimension(modules[module_name]) if parameter.ndim > 1 else 0
                leaving = torch.zeros(parameter.shape[dimension], device=parameter.device, dtype=parameter.dtype)
                leaving[list(rows)] = 1.0
                shape = [-1 if axis == dimension else 1 for axis in range(parameter.ndim)]
                found[f"{module_name}.{name}"] = leaving.view(shape)
    return found
