"""Device-independent cost of a network: multiply-accumulates and parameters."""

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
    """Return the cost of ``net`` as deployed, with training-time branches (RepVGG) merged."""
    from search_spaces.networks.segmentation_net import reparameterize

    merged = reparameterize(net)
    return NetworkCost(count_macs(merged, input_hw), count_params(merged))


def count_macs(net: nn.Module, input_hw: tuple[int, int]) -> int:
    """Return the multiply-accumulates of one image through ``net`` in its current shape.

    Convolutions and matrix products are counted; biases and element-wise operations (normalisation, activation, resizing) are not,
    as is usual in papers. The mode, device and gradients of ``net`` do not change.

    Args:
        net: takes (1, 3, height, width) float32; on any device, the meta device included.
        input_hw: height and width in pixels.
    """
    from hw_latency_model.kernels.fusion import RULES, fuse
    from hw_latency_model.kernels.torch_graph import graph_from_module

    return sum(kernel.macs for kernel in fuse(graph_from_module(net, input_hw), RULES["onnxruntime"]))


def count_params(net: nn.Module) -> int:
    """Return the number of parameters of ``net``; shared ones count once, buffers such as running means do not."""
    return sum(parameter.numel() for parameter in net.parameters())
