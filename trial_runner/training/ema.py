"""An exponential moving average of a network's weights: what is evaluated and exported instead of the last step's."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """Weights and buffers averaged over steps (Polyak averaging with an exponential window).

    Attributes:
        net: a copy of the network that holds the average.
        steps: how many steps it has seen. The decay is ``min(decay, (1 + steps) / (10 + steps))``, so that the first weights
            are soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take in the weights after a step."""
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for mine, theirs in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1.0 - keep)
            else:
                mine.copy_(theirs)

    def state(self) -> dict[str, Any]:
        return {"model": self.net.state_dict(), "steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["model"])
        self.steps = int(state["steps"])
