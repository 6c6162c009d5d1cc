"""The latency constraint, checked before training: predicted latency of a candidate's final network against the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from dashboards.text import milliseconds
from hw_latency_model import LatencyEstimate, LatencyModel
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.kernels.runtimes import runtime_of
from hw_latency_model.kernels.table import MACS, WEIGHTS, KernelTable
from hw_latency_model.model.custom import PredictsLatency
from search_spaces import SearchSpace
from search_spaces.candidate import Candidate

if TYPE_CHECKING:
    from search_spaces.pruning.prune import Plan


class LatencyConstraint:
    """Predicts from the pruned shape, without training and without export, in milliseconds.

    Args:
        model: of the precision of candidates without a precision dimension.
        others: models of other precisions.
        plan_of: returns the channels that each group of a candidate keeps; None for the same ratio in each group.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int,
        model: PredictsLatency,
        budget_ms: float,
        plan_of: Callable[[Candidate], Plan | None] = lambda candidate: None,
        others: Iterable[PredictsLatency] = (),
    ) -> None:
        self._space, self.num_classes = space, num_classes
        self.plan_of = plan_of
        self.budget_ms = budget_ms
        self.use(model, others)

    def use(self, model: PredictsLatency, others: Iterable[PredictsLatency] = ()) -> None:
        """Predict with these models from now on, of the kernels that the channel plans of now give."""
        self._default_precision = model.precision
        self._models = {item.precision: item for item in (*others, model)}
        self._kernels = {
            precision: CandidateKernels(
                self._space, self.num_classes, runtime=runtime_of(item.fingerprint), plan_of=self.plan_of
            )
            for precision, item in self._models.items()
        }

    def table(self, candidate: Candidate) -> KernelTable:
        """Return the kernels of the candidate's final, pruned shape, fused as by its precision's runtime."""
        return self._kernels[candidate.precision or self._default_precision].table(candidate)

    def planned(self, candidate: Candidate, plan: Plan | None) -> KernelTable:
        """Return ``table`` under other channels of the groups than ``plan_of`` would choose now; None for a uniform prune ratio."""
        return self._kernels[candidate.precision or self._default_precision].planned(candidate, plan)

    def runtime(self, candidate: Candidate) -> str:
        """Return the runtime whose fusion rules the candidate's kernels follow."""
        return runtime_of(self._models[candidate.precision or self._default_precision].fingerprint)

    def predicts(self, candidate: Candidate) -> bool:
        """Return True if there is a model of the candidate's precision."""
        return (candidate.precision or self._default_precision) in self._models

    def estimate(self, candidate: Candidate) -> LatencyEstimate:
        """Predict the candidate's latency in its final, pruned shape, with its interval."""
        return self._models[candidate.precision or self._default_precision].predict(self.table(candidate))

    def estimate_many(self, candidates: Sequence[Candidate]) -> list[LatencyEstimate]:
        """``estimate`` of each candidate, without its kernels' own times; those of one precision are predicted together."""
        found: dict[int, LatencyEstimate] = {}
        for precision, model in self._models.items():
            rows = [
                at for at, item in enumerate(candidates) if (item.precision or self._default_precision) == precision
            ]
            tables = [self.table(candidates[at]) for at in rows]
            if isinstance(model, LatencyModel):
                found.update(zip(rows, model.predict_many(tables), strict=True))
            else:
                found.update((at, model.predict(table)) for at, table in zip(rows, tables, strict=True))
        return [found[at] for at in range(len(candidates))]

    def macs(self, candidate: Candidate) -> float:
        """Multiply-accumulates of one image through the candidate's final, pruned shape."""
        return float(self.table(candidate).facts[:, MACS].sum())

    def weight_bytes(self, candidate: Candidate) -> float:
        """Bytes of the weights of the candidate's final, pruned shape."""
        return float(self.table(candidate).facts[:, WEIGHTS].sum())

    def violation_reason(self, estimate: LatencyEstimate) -> str | None:
        """Return the reason for rejecting the candidate, or None. Only one whose whole interval lies above the budget is rejected."""
        if estimate.low_ms <= self.budget_ms:
            return None
        return (
            f"predicted {milliseconds(estimate.latency_ms)} ms "
            f"[{milliseconds(estimate.low_ms)}, {milliseconds(estimate.high_ms)}]: even the low end "
            f"is over the budget of {self.budget_ms:g} ms"
        )
