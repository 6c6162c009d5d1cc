"""The gate before any training: what a candidate's final network would cost on the device, and whether that is too much."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from dashboards.text import milliseconds
from hw_latency_model import LatencyEstimate, LatencyModel
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.kernels.runtimes import runtime_of
from hw_latency_model.kernels.table import MACS, KernelTable
from hw_latency_model.model.custom import PredictsLatency
from search_spaces import SearchSpace
from search_spaces.candidate import Candidate

if TYPE_CHECKING:
    from search_spaces.pruning.prune import Plan


class LatencyGate:
    """Predicts from the pruned shape, without training and without export, in milliseconds.

    Args:
        model: of the precision that candidates run in which name none of their own.
        others: models of other precisions, for the candidates that name one.
        plan_of: how many channels each group of a candidate keeps; None where it keeps the same share of each.
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
        self._usual = model.precision
        self._models = {item.precision: item for item in (*others, model)}
        self._kernels = {
            precision: CandidateKernels(space, num_classes, runtime=runtime_of(item.fingerprint), plan_of=plan_of)
            for precision, item in self._models.items()
        }
        self.plan_of = plan_of
        self.budget_ms = budget_ms

    def table(self, candidate: Candidate) -> KernelTable:
        """The kernels of the candidate's final, pruned shape, as its precision's runtime fuses them."""
        return self._kernels[candidate.precision or self._usual].table(candidate)

    def estimate(self, candidate: Candidate) -> LatencyEstimate:
        """The candidate's latency in its final, pruned shape, with its interval."""
        return self._models[candidate.precision or self._usual].predict(self.table(candidate))

    def estimate_many(self, candidates: Sequence[Candidate]) -> list[LatencyEstimate]:
        """``estimate`` of each candidate, without its kernels' own times; those of one precision are predicted together."""
        found: dict[int, LatencyEstimate] = {}
        for precision, model in self._models.items():
            rows = [at for at, item in enumerate(candidates) if (item.precision or self._usual) == precision]
            tables = [self.table(candidates[at]) for at in rows]
            if isinstance(model, LatencyModel):
                found.update(zip(rows, model.predict_many(tables), strict=True))
            else:
                found.update((at, model.predict(table)) for at, table in zip(rows, tables, strict=True))
        return [found[at] for at in range(len(candidates))]

    def macs(self, candidate: Candidate) -> float:
        """Multiply-accumulates of one image through the candidate's final, pruned shape."""
        return float(self.table(candidate).facts[:, MACS].sum())

    def refusal(self, estimate: LatencyEstimate) -> str | None:
        """Why the candidate is not trained, or None. Only what is too slow by the interval's fast end is refused."""
        if estimate.low_ms <= self.budget_ms:
            return None
        return (
            f"predicted {milliseconds(estimate.latency_ms)} ms "
            f"[{milliseconds(estimate.low_ms)}, {milliseconds(estimate.high_ms)}]: even the low end "
            f"is over the budget of {self.budget_ms:g} ms"
        )
