"""Precise BN: re-estimated batch-normalisation statistics, for averaged weights, pruned networks and training on crops."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def update_bn_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running means and variances by the mean over ``batches`` of the batch statistics; weights stay.

    Args:
        net: in any mode, which it keeps; everything but the normalisation runs in evaluation mode.
        batches: normalised float32 (N, 3, H, W), N of 2 at least. Without any, nothing changes.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    modes = {module: module.training for module in net.modules()}
    momenta = [norm.momentum for norm in norms]
    net.eval()
    for position, images in enumerate(batches):
        if position == 0:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over the batches
                norm.train()
        net(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, training in modes.items():
        module.training = training
