"""Optimizer and learning-rate schedule of a training."""

from __future__ import annotations

import math

import torch
from torch import nn

from trial_runner.config.study import TrainingSection

_MOMENTUM = 0.9
_POLY_POWER = 0.9
_ONE_CYCLE_RISE = 0.3


def make_optimizer(
    net: nn.Module, config: TrainingSection, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Make AdamW, or SGD with Nesterov momentum. Biases and normalisation have no weight decay; the encoder's learning rate is
    ``encoder_lr_multiplier`` times the decoder's. `set_rate` scales each group's ``initial_rate``."""
    groups = []
    encoder = {id(p) for name, p in net.named_parameters() if name.startswith("encoder.")}
    for in_encoder in (True, False):
        for decayed in (True, False):
            parameters = [p for p in net.parameters() if (id(p) in encoder) == in_encoder and (p.ndim > 1) == decayed]
            if parameters:
                rate = learning_rate * (config.encoder_lr_multiplier if in_encoder else 1.0)
                decay = weight_decay if decayed else 0.0
                groups.append({"params": parameters, "weight_decay": decay, "lr": rate, "initial_rate": rate})
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=_MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups, lr=learning_rate)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its initial one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_rate"] * factor


def rate_factor(config: TrainingSection, epoch: float, epochs: int) -> float:
    """Return the factor of the learning rate after ``epoch`` (may be fractional) of ``epochs``, in (0, 1].

    ``cosine`` and ``poly`` (1 - t)^0.9 fall after a linear warm-up of ``warmup_epochs``; ``one_cycle`` rises by a cosine over the
    first 0.3 of the training and falls by one after (Smith and Topin 2017), and has no other warm-up.
    """
    if config.schedule == "one_cycle":
        share = min(epoch / max(epochs, 1e-9), 1.0)
        if share < _ONE_CYCLE_RISE:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * share / _ONE_CYCLE_RISE))
        return 0.5 * (1 + math.cos(math.pi * (share - _ONE_CYCLE_RISE) / (1 - _ONE_CYCLE_RISE)))
    warmup = config.warmup_epochs
    if epoch < warmup:
        return (epoch + 0.05) / (warmup + 0.05)
    share = min((epoch - warmup) / max(epochs - warmup, 1e-9), 1.0)
    return (1 - share) ** _POLY_POWER if config.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * share))
