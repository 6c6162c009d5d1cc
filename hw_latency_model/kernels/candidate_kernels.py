"""Fast extraction of candidates' kernels: each network is traced once, other sizes and prune ratios are computed from it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hw_latency_model.kernels.fusion import RULES, fuse
from hw_latency_model.kernels.graph_shapes import Unscalable, resized, with_fewer_channels
from hw_latency_model.kernels.op_graph import Op, OpGraph
from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.types import KernelSpec

if TYPE_CHECKING:
    from search_spaces import Candidate, SearchSpace, SegmentationNet
    from search_spaces.pruning.allocation import CostTerm
    from search_spaces.pruning.groups import ChannelGroup
    from search_spaces.pruning.prune import Plan

TRACE_HW = (96, 128)
"""Image size of the trace, at which only maps after a global pooling are 1×1, down to stride 32."""

KEPT = 2000
"""Number of candidates whose kernels stay in memory, about 100 kB each; recomputing them takes milliseconds."""

KEPT_TRACES = 300
"""Number of traced networks that stay in memory: all of a space of a few families, the last ones of an unbounded space."""


class CandidateKernels:
    """Kernels of candidates in their final, pruned shape, with caches of traced networks and of the latest kernels.

    A network is traced on the meta device once per set of params that its operations depend on
    (``SearchSpace.operations_id``). Image size and prune ratio are then applied to its shapes, which gives the same
    kernels as building and pruning the network; where a space or an operation does not allow that, it is built.

    Args:
        space: the candidates' space.
        num_classes: channels of the logits.
        runtime: runtime whose fusion rules apply, a key of ``fusion.RULES``.
        plan_of: channels that each group of a candidate keeps; None for the same share of each.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int,
        *,
        runtime: str = "onnxruntime",
        plan_of: Callable[[Candidate], Plan | None] = lambda candidate: None,
    ) -> None:
        self._space, self._num_classes, self._rules, self._plan_of = space, num_classes, RULES[runtime], plan_of
        self._traced: dict[str, OpGraph] = {}
        self._groups: dict[str, tuple[ChannelGroup, ...]] = {}
        self._tables: dict[str, KernelTable] = {}

    def __call__(self, candidate: Candidate) -> tuple[KernelSpec, ...]:
        """Return the candidate's kernels, in the network's order."""
        return self.table(candidate).kernels

    def table(self, candidate: Candidate) -> KernelTable:
        """Return the kernels as a table, the fastest input of ``LatencyModel``."""
        key = self._space.architecture_id(candidate)
        if key not in self._tables:
            if len(self._tables) >= KEPT:
                del self._tables[next(iter(self._tables))]
            self._tables[key] = self.planned(candidate, self._plan_of(candidate))
        return self._tables[key]

    def planned(self, candidate: Candidate, plan: Plan | None) -> KernelTable:
        """Return the table of the candidate pruned by ``plan``; not cached."""
        return KernelTable.of(fuse(self._graph(candidate, plan), self._rules))

    def groups(self, candidate: Candidate) -> tuple[ChannelGroup, ...]:
        """Return the groups of coupled channels of the candidate's unpruned network."""
        key = self._space.operations_id(candidate) or self._space.architecture_id(candidate)
        if key not in self._groups:
            from search_spaces.networks.meta_init import meta_init
            from search_spaces.pruning.prune import channel_groups

            with meta_init():
                self._groups[key] = channel_groups(self._space.build(candidate, self._num_classes))
        return self._groups[key]

    def dense_costs(
        self, candidate: Candidate, costs: Callable[[Sequence[KernelSpec]], Sequence[float]]
    ) -> list[CostTerm]:
        """Return the cost of each kernel of the unpruned network, with the channel groups that scale it."""
        from hw_latency_model.kernels.pruning_costs import cost_terms

        return cost_terms(self._dense(candidate), self._rules, self.groups(candidate), costs)

    def _dense(self, candidate: Candidate) -> OpGraph:
        key = self._space.operations_id(candidate)
        if key is not None:
            if key not in self._traced:
                if len(self._traced) >= KEPT_TRACES:
                    del self._traced[next(iter(self._traced))]
                self._traced[key] = self._trace(candidate)
            try:
                return resized(self._traced[key], TRACE_HW, self._space.input_hw(candidate))
            except Unscalable:
                pass
        return self._read(self._space.build(candidate, self._num_classes), candidate)

    def _graph(self, candidate: Candidate, plan: Plan | None) -> OpGraph:
        ratio = self._space.prune_ratio(candidate)
        if self._space.operations_id(candidate) is not None:
            try:
                graph = self._dense(candidate)
                return with_fewer_channels(graph, self._kept(candidate, ratio, plan)) if ratio else graph
            except Unscalable:
                pass
        return self._built(candidate, plan)

    def _kept(self, candidate: Candidate, ratio: float, plan: Plan | None) -> Callable[[Op, int], int]:
        from hw_latency_model.kernels.pruning_costs import group_of_convolutions
        from search_spaces.pruning.prune import kept_channels

        if plan is None:
            return lambda op, channels: kept_channels(channels, ratio)
        find = group_of_convolutions(self.groups(candidate))

        def kept(op: Op, channels: int) -> int:
            root = find(op.module)
            return channels if root is None else plan.get(root, channels)

        return kept

    def _trace(self, candidate: Candidate) -> OpGraph:
        from timm.utils.model import reparameterize_model

        from hw_latency_model.kernels.meta_shapes import MetaShapes
        from hw_latency_model.kernels.torch_graph import graph_from_module
        from search_spaces.networks.meta_init import meta_init

        with _uncollected():
            with meta_init():
                net = self._space.build(candidate, self._num_classes).eval()
                with MetaShapes():
                    net = reparameterize_model(net, inplace=True)
            return graph_from_module(net, TRACE_HW, owned=True)

    def _built(self, candidate: Candidate, plan: Plan | None) -> OpGraph:
        if plan is None:
            return self._read(self._space.build_pruned(candidate, self._num_classes), candidate)
        from search_spaces.pruning.prune import prune_network

        net = self._space.build(candidate, self._num_classes)
        return self._read(prune_network(net, self._space.prune_ratio(candidate), plan=plan), candidate)

    def _read(self, net: SegmentationNet, candidate: Candidate) -> OpGraph:
        from hw_latency_model.kernels.torch_graph import graph_from_module
        from search_spaces import reparameterize

        return graph_from_module(reparameterize(net), self._space.input_hw(candidate))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Context without garbage collection, which walks all of torch and takes longer than a trace."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
