"""Kernel chains: subgraphs of whole networks, measured as small engines.

Parallel kernels cannot be measured in one small graph: a runtime may merge convolutions that read the same tensor, runs
branches concurrently (TensorRT 8.6 and later), and converts the layout at each input and output. A single kernel cannot be
measured either: its layout and cache state inside a network are missing, and its time is mostly the launch. A chain is
therefore a subgraph of a real network, several kernels long, cut where a single tensor passes and no fusion crosses the cut.
Each kernel has the same neighbours as in the network; only the two ends have an additional copy. The measured time is one
equation over the kernels, as for a network, but the build takes a fraction of the time because it times each distinct kernel.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import shape_inference
from onnx.utils import Extractor

_FUSED_INTO_PRODUCER = frozenset(
    {
        *("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Erf"),
        *("Add", "Sum", "Mul", "Sub", "Div", "BatchNormalization", "Identity"),
    }
)
_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def cut_chains(path: Path, *, least_heavy: int = 4, most_heavy: int = 10) -> list[onnx.ModelProto]:
    """Cut the network in ``path`` into consecutive chains without overlap.

    A chain ends at a tensor that depends on its first tensor only; skip connections that leave it are allowed.

    Args:
        path: an ONNX file with one input and static shapes.
        least_heavy, most_heavy: bounds on the convolutions and matrix products of a chain; parts of the network that only
            allow longer chains are left out.

    Returns:
        Models with one input and one output each; empty if the network cannot be cut.
    """
    model = shape_inference.infer_shapes(onnx.load(str(path)))
    graph = model.graph
    constants = {value.name for value in graph.initializer}
    constants |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    inputs = [value.name for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        return []
    extractor = Extractor(model)
    spans = _Spans(graph, inputs[0], constants).find(least_heavy, most_heavy)
    return [extractor.extract_model([first], [last]) for first, last in spans]


class _Spans:
    def __init__(self, graph: onnx.GraphProto, source: str, constants: set[str]) -> None:
        self._source = source
        self._shaped = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
        self._nodes = [node for node in graph.node if not set(node.output) <= constants]
        self._reads = [[name for name in node.input if name and name not in constants] for node in self._nodes]
        self._made_by = {name: index for index, node in enumerate(self._nodes) for name in node.output}
        self._uses: dict[str, set[str]] = {}
        for node, names in zip(self._nodes, self._reads, strict=True):
            for name in names:
                self._uses.setdefault(name, set()).add(node.op_type)

    def find(self, least_heavy: int, most_heavy: int) -> list[tuple[str, str]]:
        """Return the (first, last) tensor of each chain."""
        dominator = self._dominators()
        begins: dict[str, str | None] = {self._source: self._source}
        taken: set[int] = set()
        spans: list[tuple[str, str]] = []
        for node in self._nodes:
            tensor = node.output[0]
            if tensor not in dominator:
                continue
            begin = begins.get(dominator[tensor])
            clean = self._is_clean(tensor)
            if begin is None:
                begins[tensor] = tensor if clean else None
                continue
            inside = self._between(begin, tensor)
            heavy = sum(self._nodes[index].op_type in _HEAVY for index in inside)
            if heavy < least_heavy or not clean:
                begins[tensor] = begin if heavy <= most_heavy else None
                continue
            if heavy <= most_heavy and not inside & taken:
                spans.append((begin, tensor))
                taken |= inside
            begins[tensor] = tensor
        return spans

    def _is_clean(self, tensor: str) -> bool:
        """Return True if no fusion crosses the tensor: one read only by elementwise operations is fused with its producer."""
        uses = self._uses.get(tensor, set())
        return tensor in self._shaped and bool(uses) and not uses <= _FUSED_INTO_PRODUCER

    def _dominators(self) -> dict[str, str]:
        """Immediate dominator of each tensor; the source has none."""
        depth = {self._source: 0}
        dominator: dict[str, str] = {}
        for node, names in zip(self._nodes, self._reads, strict=True):
            known = [name for name in names if name in depth]
            if not known:
                continue
            common = known[0]
            for name in known[1:]:
                while common != name:
                    if depth[common] >= depth[name]:
                        common = dominator[common]
                    else:
                        name = dominator[name]
            for output in node.output:
                dominator[output], depth[output] = common, depth[common] + 1
        return dominator

    def _between(self, first: str, last: str) -> set[int]:
        """Indices of the nodes that compute ``last`` from ``first``."""
        found: set[int] = set()
        open_names = [last]
        while open_names:
            name = open_names.pop()
            index = self._made_by.get(name)
            if name != first and index is not None and index not in found:
                found.add(index)
                open_names += self._reads[index]
        return found
