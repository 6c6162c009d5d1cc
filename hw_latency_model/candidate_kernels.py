"""Kernels of a search's candidates in milliseconds: each network is traced once, its other sizes are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hw_latency_model.fusion import RULES, fuse
from hw_latency_model.graph_shapes import Unscalable, resized, with_fewer_channels
from hw_latency_model.kernel_table import KernelTable
from hw_latency_model.op_graph import OpGraph
from hw_latency_model.types import KernelSpec

if TYPE_CHECKING:
    from search_spaces import Candidate, SearchSpace

TRACE_HW = (96, 128)
"""At this size no map but those of a global pooling is 1×1, down to stride 32."""

KEPT = 2000
"""So many candidates' kernels stay in memory, about 100 kB each; working them out again takes milliseconds."""


class CandidateKernels:
    """Kernels of candidates in their final, pruned shape; traced networks and the last kernels asked for are remembered.

    A network is traced on the meta device once per set of params that its operations depend on
    (``SearchSpace.operations_id``). Image size and prune ratio are then applied to its shapes, which gives the same
    kernels as building and pruning the network; where a space or an operation does not allow that, it is built.

    Args:
        space: the candidates' space.
        num_classes: channels of the logits.
        runtime: whose fusion rules to follow, a key of ``fusion.RULES``.
    """

    def __init__(self, space: SearchSpace, num_classes: int, *, runtime: str = "onnxruntime") -> None:
        self._space, self._num_classes, self._rules = space, num_classes, RULES[runtime]
        self._traced: dict[str, OpGraph] = {}
        self._tables: dict[str, KernelTable] = {}

    def __call__(self, candidate: Candidate) -> tuple[KernelSpec, ...]:
        """The candidate's kernels, in the network's order."""
        return self.table(candidate).kernels

    def table(self, candidate: Candidate) -> KernelTable:
        """The same as a table, which ``LatencyModel`` predicts on fastest."""
        key = self._space.architecture_id(candidate)
        if key not in self._tables:
            if len(self._tables) >= KEPT:
                del self._tables[next(iter(self._tables))]
            self._tables[key] = KernelTable.of(fuse(self._graph(candidate), self._rules))
        return self._tables[key]

    def _graph(self, candidate: Candidate) -> OpGraph:
        key = self._space.operations_id(candidate)
        if key is not None:
            from search_spaces.pruning import kept_channels

            if key not in self._traced:
                self._traced[key] = self._trace(candidate)
            ratio = self._space.prune_ratio(candidate)
            try:
                graph = resized(self._traced[key], TRACE_HW, self._space.input_hw(candidate))
                return with_fewer_channels(graph, lambda count: kept_channels(count, ratio)) if ratio else graph
            except Unscalable:
                pass
        return self._built(candidate)

    def _trace(self, candidate: Candidate) -> OpGraph:
        import torch
        from timm.utils.model import reparameterize_model

        from hw_latency_model.torch_graph import graph_from_module

        with torch.device("meta"):
            net = self._space.build(candidate, self._num_classes).eval()
            return graph_from_module(reparameterize_model(net, inplace=True), TRACE_HW, owned=True)

    def _built(self, candidate: Candidate) -> OpGraph:
        from hw_latency_model.torch_graph import graph_from_module
        from search_spaces import deployable

        net = deployable(self._space.build_pruned(candidate, self._num_classes))
        return graph_from_module(net, self._space.input_hw(candidate))
