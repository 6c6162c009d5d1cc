"""Exponential moving average (EMA) of a network's weights, evaluated and exported instead of the last step's weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class ExponentialMovingAverage:
    """EMA of weights and floating-point buffers over steps; other buffers are copied. The first step is copied as well.

    Attributes:
        steps: number of updates so far. The decay is ``min(decay, (1 + steps) / (10 + steps))``, so that the first weights are
            soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._averaged = AveragedModel(net, multi_avg_fn=self._blend, use_buffers=True).requires_grad_(False)

    @property
    def net(self) -> nn.Module:
        """The copy of the network that holds the average."""
        return self._averaged.module

    def update(self, net: nn.Module) -> None:
        """Take in the weights after a step."""
        self._averaged.update_parameters(net)
        self.steps += 1

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"model": self.net.state_dict(), "steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned for the same network."""
        self.net.load_state_dict(state["model"])
        self.steps = int(state["steps"])
        self._averaged.n_averaged.fill_(self.steps)

    @torch.no_grad()
    def _blend(self, averages: tuple[Tensor, ...] | list[Tensor], values: Any, n_averaged: Any) -> None:
        if averages[0].dtype.is_floating_point:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            get_ema_multi_avg_fn(decay)(averages, values, n_averaged)  # type: ignore[no-untyped-call]
            return
        for average, value in zip(
            averages, values, strict=True
        ):  # torch's function would round counts and indices down
            average.copy_(value)
