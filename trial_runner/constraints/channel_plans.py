"""Channels that each layer of a candidate keeps, planned before training from costs and pretrained weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.kernels.pruning_costs import macs_of
from hw_latency_model.kernels.runtimes import runtime_of
from hw_latency_model.model.custom import PredictsLatency
from hw_latency_model.types import KernelSpec
from search_spaces import SearchSpace
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate
from search_spaces.pruning.allocation import Sensitivity, allocate_sparsity, score_sensitivity
from search_spaces.pruning.prune import CHANNEL_MULTIPLE, channel_groups, uniform_plan
from search_spaces.pruning.scores import METHODS, channel_scores
from trial_runner.config.study import TrainingSection

_ROUNDS = 8
_STEP = 0.97


class ChannelPlans:
    """Pruning plans of a study's candidates, cached by network and input size.

    ``uniform`` prunes the same ratio of each group. ``latency`` and ``sensitivity`` reach the cost of uniform pruning with less
    loss of accuracy: by the model's milliseconds, assuming that each halving of a layer is equally harmful, and by MACs, with the
    lost norm of the pretrained weights as sensitivity. For the same model, weights and candidate the plan is the same.

    Args:
        model: of the precision of candidates without a precision dimension.
        others: models of other precisions.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int,
        model: PredictsLatency,
        training: TrainingSection,
        others: Iterable[PredictsLatency] = (),
    ) -> None:
        self._space, self._num_classes = space, num_classes
        self._pruning, self._weights = training.pruning, training.weights
        self.use(model, others)

    def use(self, model: PredictsLatency, others: Iterable[PredictsLatency] = ()) -> None:
        """Plan with these models from now on."""
        self._default_precision = model.precision
        self._models = {item.precision: item for item in (*others, model)}
        self._kernels = {
            precision: CandidateKernels(self._space, self._num_classes, runtime=runtime_of(item.fingerprint))
            for precision, item in self._models.items()
        }
        self._plans: dict[tuple[str, str], dict[str, int]] = {}

    def __call__(self, candidate: Candidate) -> Mapping[str, int] | None:
        """Return the channels kept in each group, by the name of its root; None if not pruned, or pruned as by default."""
        config = self._pruning
        uniform = config.allocation == "uniform" and config.channel_multiple == CHANNEL_MULTIPLE
        if uniform or self._space.prune_ratio(candidate) == 0.0:
            return None
        key = self._space.architecture_id(candidate), candidate.precision or self._default_precision
        if key not in self._plans:
            self._plans[key] = self._plan(candidate)
        return self._plans[key]

    def _plan(self, candidate: Candidate) -> dict[str, int]:
        precision = candidate.precision or self._default_precision
        kernels = self._kernels[precision]
        groups, ratio = kernels.groups(candidate), self._space.prune_ratio(candidate)
        multiple = self._pruning.channel_multiple
        if self._pruning.allocation == "uniform":
            return uniform_plan(groups, ratio, multiple)
        if self._pruning.allocation == "latency":
            return self._by_latency(candidate, kernels, self._models[precision])
        terms = kernels.dense_costs(candidate, macs_of)
        return allocate_sparsity(
            groups, terms, ratio, multiple=multiple, sensitivity=self._weight_sensitivity(candidate)
        )

    def _by_latency(self, candidate: Candidate, kernels: CandidateKernels, model: PredictsLatency) -> dict[str, int]:
        """Plan by per-kernel costs, which are an approximation; repeated with a smaller share until the model confirms the latency."""
        groups, ratio = kernels.groups(candidate), self._space.prune_ratio(candidate)
        multiple = self._pruning.channel_multiple
        terms = kernels.dense_costs(candidate, lambda parts: _kernel_ms(model, parts))
        uniform = uniform_plan(groups, ratio, multiple)
        allowed_ms = model.predict(kernels.planned(candidate, uniform)).latency_ms
        share = 1.0
        for _ in range(_ROUNDS):
            plan = allocate_sparsity(groups, terms, ratio, multiple=multiple, share=share)
            ms = model.predict(kernels.planned(candidate, plan)).latency_ms
            if ms <= allowed_ms:
                return plan
            share *= min(allowed_ms / ms, _STEP)
        return uniform

    def _weight_sensitivity(self, candidate: Candidate) -> Sensitivity:
        net = self._space.build(candidate, self._num_classes)
        self._space.load_pretrained(net, candidate, self._weights)
        method = self._pruning.method if self._pruning.method in METHODS else "l1"
        modules = dict(net.named_modules())
        return score_sensitivity(
            {group.root: channel_scores(modules, group, method).tolist() for group in channel_groups(net)}
        )


def _kernel_ms(model: PredictsLatency, parts: Sequence[KernelSpec]) -> list[float]:
    times = [ms for _, _, ms in model.predict(parts).per_kernel]
    if len(times) != len(parts):
        raise UserError(
            f"training.pruning.allocation is latency, which needs the time of each kernel, but {model.provenance}, which gives none. "
            "Return them as per_kernel of the LatencyEstimate, or set the allocation to uniform."
        )
    return times
