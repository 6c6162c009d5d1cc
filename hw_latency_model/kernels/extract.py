"""Extraction of a network's kernels from an ONNX file or a torch module.

Both readers produce the same ``OpGraph``, and one pass fuses it, so that the search (on modules) and measurements (of files)
use the same description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hw_latency_model.kernels.fusion import RULES, fuse
from hw_latency_model.kernels.op_graph import OpGraph
from hw_latency_model.types import KernelSpec
from search_spaces._common.errors import UserError

if TYPE_CHECKING:
    import onnx
    from torch import nn


@dataclass(frozen=True)
class OnnxNetwork:
    """An ONNX model, read.

    Attributes:
        graph: operations of one run.
        precision: ``fp32``, ``fp16``, ``bf16``, ``fp64`` or ``int8``, in which most of the file's work is done.
        notes: sentences on assumptions, such as a batch of 1.
        source: name of the file for messages.
    """

    graph: OpGraph
    precision: str
    notes: tuple[str, ...]
    source: str

    def kernels(self, runtime: str) -> list[KernelSpec]:
        """Fuse the operations by the rules of ``runtime``, a key of ``fusion.RULES``.

        Raises:
            UserError: no operation takes time.
        """
        kernels = fuse(self.graph, RULES[runtime])
        if all(kernel.kind == "view" for kernel in kernels):
            raise UserError(f"{self.source} holds no operation that takes time. Give an exported network.")
        return kernels


def network_from_onnx(
    model: onnx.ModelProto | Path, *, inputs: Mapping[str, tuple[int, ...]] | None = None
) -> OnnxNetwork:
    """Read an ONNX model as the operations of one run.

    Args:
        model: the file, or a model in memory.
        inputs: sizes of inputs whose size is dynamic, by name; a dynamic batch alone is 1.

    Raises:
        UserError: the file is missing, damaged, not ONNX, empty, or has dynamic shapes.
    """
    from exports.onnx.static_graph import precision_of, static_graph
    from hw_latency_model.kernels.onnx_graph import graph_from_static

    graph = static_graph(model, inputs)
    return OnnxNetwork(graph_from_static(graph), precision_of(graph), graph.notes, graph.source)


def kernels_from_onnx(
    model: onnx.ModelProto | Path,
    *,
    runtime: str = "onnxruntime",
    inputs: Mapping[str, tuple[int, ...]] | None = None,
) -> list[KernelSpec]:
    """Extract the kernels of an ONNX model; ``inputs`` and errors as in `network_from_onnx`."""
    return network_from_onnx(model, inputs=inputs).kernels(runtime)


def kernels_from_module(net: nn.Module, input_hw: tuple[int, int], *, runtime: str = "onnxruntime") -> list[KernelSpec]:
    """Extract the kernels of ``net`` for one (3, H, W) image in evaluation mode, without computation or export.

    The module's mode, parameters, buffers and the random state do not change.
    """
    from hw_latency_model.kernels.torch_graph import graph_from_module
    from search_spaces import SegmentationNet, reparameterize

    if isinstance(net, SegmentationNet):
        net = reparameterize(net)  # as exported and timed
    return fuse(graph_from_module(net, input_hw), RULES[runtime])
