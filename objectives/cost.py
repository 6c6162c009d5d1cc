"""What a network costs in arithmetic and in memory, whatever the device."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from search_spaces.networks.segmentation_net import SegmentationNet

_MAC_OPERATORS = ("conv", "linear", "addmm", "matmul", "mm", "bmm", "baddbmm", "einsum")


@dataclass(frozen=True)
class NetworkCost:
    """Multiply-accumulates of one image, and parameters."""

    macs: int
    parameters: int


def deployed_cost(net: SegmentationNet, input_hw: tuple[int, int]) -> NetworkCost:
    """What ``net`` costs in the form that runs on a device: without the branches that only its training has (RepVGG)."""
    from search_spaces.networks.segmentation_net import reparameterize

    merged = reparameterize(net)
    return NetworkCost(count_macs(merged, input_hw), count_params(merged))


def count_macs(net: nn.Module, input_hw: tuple[int, int]) -> int:
    """Multiply-accumulates of one image through ``net``, in the shape it has now.

    Counted by fvcore's tracer over convolutions and matrix products; biases and everything element-wise (normalisation,
    activation, resizing) are left out, as papers do. The net's mode, device and gradients stay as they are.

    Args:
        net: takes (1, 3, height, width) float32; on any device, the meta device included.
        input_hw: height and width in pixels.
    """
    parameters = list(net.parameters())
    if any(parameter.is_meta for parameter in parameters):
        net = copy.deepcopy(net).to_empty(device="cpu")  # the tracer cannot run meta tensors, and values do not matter
        parameters = list(net.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # fvcore scripts its losses when it is imported, and traces: torch calls both outdated, once per process.
            warnings.simplefilter("ignore")
            from fvcore.nn import FlopCountAnalysis

            analysis = FlopCountAnalysis(net, torch.zeros(1, 3, *input_hw, device=device))
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            by_operator = analysis.by_operator()
    finally:
        for module, training in modes.items():
            module.training = training
    return int(sum(by_operator.get(name, 0) for name in _MAC_OPERATORS))


def count_params(net: nn.Module) -> int:
    """Parameters of ``net``, a shared one counted once; buffers such as running means are not parameters."""
    return sum(parameter.numel() for parameter in net.parameters())
