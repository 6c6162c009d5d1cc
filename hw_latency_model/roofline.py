"""The physical prior: each kind of kernel costs so much per MAC, per byte moved, and per launch; nothing is negative.

A typed roofline with the terms added (compute and traffic overlap little within one small kernel on one core), fitted
to whole networks by non-negative least squares. Each kind's costs are pulled towards what all kinds of its class cost
together, so that forty networks are enough for a dozen kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]

TERMS = ("macs", "activation_bytes", "weight_bytes", "launches")

_CLASSES = {
    **dict.fromkeys(("conv", "pointwise", "stem_conv", "grouped_conv", "transposed_conv", "gemm"), "dense"),
    "depthwise": "depthwise",
}
_OTHER = "moving"


def class_of(kind: str) -> str:
    """Kinds of one class cost alike: ``dense`` arithmetic, ``depthwise``, or ``moving`` data."""
    return _CLASSES.get(kind, _OTHER)


def kernel_terms(kernel: KernelSpec, align: int) -> tuple[float, float, float, float]:
    """(MMACs with channels rounded up to ``align``, 100 kB of activations, 100 kB of weights, 1)."""
    macs = float(kernel.macs)
    if align > 1 and kernel.out_channels and macs:
        macs *= -(-kernel.out_channels // align) * align / kernel.out_channels
    return (macs / 1e6, kernel.activation_bytes / 1e5, kernel.weight_bytes / 1e5, 1.0)


def network_terms(kernels: Sequence[KernelSpec], kinds: Sequence[str], align: int) -> Array:
    """(kinds, 4) sums over the kernels of each kind; views, which cost nothing, are left out."""
    index = {kind: row for row, kind in enumerate(kinds)}
    total = np.zeros((len(kinds), len(TERMS)))
    for kernel in kernels:
        row = index.get(kernel.kind)
        if row is not None:
            total[row] += kernel_terms(kernel, align)
    return total


@dataclass(frozen=True)
class Roofline:
    """Milliseconds per unit of each term.

    Attributes:
        kinds: the kinds that were fitted.
        cost_ms: (kinds, 4), not negative.
        class_cost_ms: class to (4,): what a kind that was never measured is taken to cost.
        align: channels are rounded up to a multiple of this for the MACs; chosen by fit.
    """

    kinds: tuple[str, ...]
    cost_ms: Array
    class_cost_ms: dict[str, Array]
    align: int

    @classmethod
    def fit(
        cls, terms: Array, latency_ms: Array, weights: Array, kinds: Sequence[str], align: int, strength: float
    ) -> Roofline:
        """Fit relative errors, weighted.

        Args:
            terms: (n, kinds, 4) of each network.
            latency_ms: (n,).
            weights: (n,) how much each measurement counts.
            strength: of the pull towards the class's costs.
        """
        classes = sorted({class_of(kind) for kind in kinds})
        member = np.array([[class_of(kind) == name for kind in kinds] for name in classes], dtype=np.float64)
        pooled = np.einsum("ck,nkt->nct", member, terms)
        pooled_cost = _pooled_costs(pooled, latency_ms, weights)
        start = member.T @ pooled_cost
        n, kind_count, term_count = terms.shape
        design = terms.reshape(n, -1) * (weights / latency_ms)[:, None]
        # Where the pooled fit gives a term nothing, a kind may still spend a tenth of the network on it.
        typical = 0.1 * np.median(latency_ms) / np.maximum(np.median(pooled, axis=0), 1e-9)
        reach = np.maximum(member.T @ np.minimum(typical, 10.0), start).reshape(-1)
        prior_rows = np.diag(strength / reach)
        matrix = np.vstack([design, prior_rows])
        target = np.concatenate([weights, strength * start.reshape(-1) / reach])
        cost, _ = nnls(matrix, target, maxiter=50 * matrix.shape[1])
        return cls(
            tuple(kinds),
            cost.reshape(kind_count, term_count),
            {name: pooled_cost[row] for row, name in enumerate(classes)},
            align,
        )

    def cost_of(self, kind: str) -> Array:
        """(4,) costs of a kind; of its class, or the dearest class, when it was never measured."""
        if kind in self.kinds:
            return np.asarray(self.cost_ms[self.kinds.index(kind)], dtype=np.float64)
        known = self.class_cost_ms.get(class_of(kind))
        return np.max(list(self.class_cost_ms.values()), axis=0) if known is None else known

    def kernel_ms(self, kernels: Sequence[KernelSpec]) -> Array:
        """(n,) prior milliseconds of each kernel; views cost nothing."""
        if not kernels:
            return np.zeros(0)
        terms = np.array([kernel_terms(kernel, self.align) for kernel in kernels])
        table = {kind: self.cost_of(kind) for kind in {kernel.kind for kernel in kernels} - {"view"}}
        free = np.zeros(len(TERMS))
        costs = np.array([table.get(kernel.kind, free) for kernel in kernels])
        return np.asarray((terms * costs).sum(axis=1), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        return {
            "terms": list(TERMS),
            "kinds": list(self.kinds),
            "cost_ms": self.cost_ms.tolist(),
            "class_cost_ms": {name: cost.tolist() for name, cost in self.class_cost_ms.items()},
            "align": self.align,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Roofline:
        return cls(
            tuple(value["kinds"]),
            np.array(value["cost_ms"], dtype=np.float64).reshape(len(value["kinds"]), len(TERMS)),
            {name: np.array(cost, dtype=np.float64) for name, cost in value["class_cost_ms"].items()},
            int(value["align"]),
        )


def _pooled_costs(pooled: Array, latency_ms: Array, weights: Array) -> Array:
    """(classes, 4) costs; a faint pull to equal shares keeps collinear terms from taking all or nothing."""
    n, class_count, term_count = pooled.shape
    design = pooled.reshape(n, -1) * (weights / latency_ms)[:, None]
    share = design.mean(axis=0)
    share = np.where(share > 1e-12, share, 1.0)
    faint = 0.02
    rows = faint * np.diag(share)
    goal = np.full(design.shape[1], faint * float(weights.mean()) / design.shape[1])
    cost, _ = nnls(np.vstack([design, rows]), np.concatenate([weights, goal]), maxiter=50 * design.shape[1])
    return np.asarray(cost, dtype=np.float64).reshape(class_count, term_count)
