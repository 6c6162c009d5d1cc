"""What a network costs in arithmetic and in memory, whatever the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from search_spaces.networks.segmentation_net import SegmentationNet


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

    Summed over the convolutions and matrix products of its kernels; biases and everything element-wise (normalisation,
    activation, resizing) are left out, as papers do. The net's mode, device and gradients stay as they are.

    Args:
        net: takes (1, 3, height, width) float32; on any device, the meta device included.
        input_hw: height and width in pixels.
    """
    from hw_latency_model.kernels.fusion import RULES, fuse
    from hw_latency_model.kernels.torch_graph import graph_from_module

    return sum(kernel.macs for kernel in fuse(graph_from_module(net, input_hw), RULES["onnxruntime"]))


def count_params(net: nn.Module) -> int:
    """Parameters of ``net``, a shared one counted once; buffers such as running means are not parameters."""
    return sum(parameter.numel() for parameter in net.parameters())
