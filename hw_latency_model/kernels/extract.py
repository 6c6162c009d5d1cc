"""A network as the kernels that a runtime launches for it, from an ONNX file or straight from a torch module.

Both readers produce the same ``OpGraph``, and one pass fuses it, so what the search predicts on (the module) and what
is measured and delivered (the file) are described alike.
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
    """Kernels of an ONNX model with static shapes.

    Raises:
        UserError: the file is missing, not ONNX, empty, or has open shapes.
    """
    from hw_latency_model.kernels.onnx_graph import graph_from_onnx

    kernels = fuse(graph_from_onnx(model), RULES[runtime])
    if not kernels:
        name = model if isinstance(model, Path) else "the ONNX model"
        raise UserError(f"{name} holds no operation that takes time. Give an exported network.")
    return kernels


def kernels_from_module(net: nn.Module, input_hw: tuple[int, int], *, runtime: str = "onnxruntime") -> list[KernelSpec]:
    """Kernels of ``net`` for one (3, H, W) image in evaluation mode; nothing is computed or exported.

    Leaves the module's mode, parameters, buffers and the random state untouched.
    """
    from hw_latency_model.kernels.torch_graph import graph_from_module
    from search_spaces import SegmentationNet, reparameterize

    if isinstance(net, SegmentationNet):
        net = reparameterize(net)  # what is exported and timed
    return fuse(graph_from_module(net, input_hw), RULES[runtime])
