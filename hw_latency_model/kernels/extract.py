"""Extraction of a network's kernels from an ONNX file or a torch module.

Both readers produce the same ``OpGraph``, and one pass fuses it, so that the search (on modules) and measurements (of files)
use the same description.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hw_latency_model.kernels.fusion import RULES, fuse
from hw_latency_model.types import KernelSpec
from search_spaces._common.errors import UserError

if TYPE_CHECKING:
    import onnx
    from torch import nn


def kernels_from_onnx(model: onnx.ModelProto | Path, *, runtime: str = "onnxruntime") -> list[KernelSpec]:
    """Extract the kernels of an ONNX model with static shapes.

    Raises:
        UserError: the file is missing, not ONNX, empty, or has dynamic shapes.
    """
    from hw_latency_model.kernels.onnx_graph import graph_from_onnx

    kernels = fuse(graph_from_onnx(model), RULES[runtime])
    if not kernels:
        name = model if isinstance(model, Path) else "the ONNX model"
        raise UserError(f"{name} holds no operation that takes time. Give an exported network.")
    return kernels


def kernels_from_module(net: nn.Module, input_hw: tuple[int, int], *, runtime: str = "onnxruntime") -> list[KernelSpec]:
    """Extract the kernels of ``net`` for one (3, H, W) image in evaluation mode, without computation or export.

    The module's mode, parameters, buffers and the random state do not change.
    """
    from hw_latency_model.kernels.torch_graph import graph_from_module
    from search_spaces import SegmentationNet, reparameterize

    if isinstance(net, SegmentationNet):
        net = reparameterize(net)  # as exported and timed
    return fuse(graph_from_module(net, input_hw), RULES[runtime])
