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
CLASSES = ("dense", "depthwise", "moving")
_TERMS_OF = {
    "dense": (True, True, True, True),
    "depthwise": (True, True, False, True),
    "moving": (False, True, False, True),
}
"""What a class can cost at all: nothing is multiplied by a kernel that moves data."""

_SHARE_WEIGHT = 0.5
"""How much a kind's time within one network counts beside that network's total."""


def class_of(kind: str) -> str:
    """Kinds of one class cost alike: ``dense`` arithmetic, ``depthwise``, or ``moving`` data."""
    return _CLASSES.get(kind, _OTHER)


def kernel_terms(kernel: KernelSpec, align: int) -> tuple[float, float, float, float]:
    """(MMACs, 100 kB of activations, 100 kB of weights, 1), channels of convolutions rounded up to ``align``."""
    macs, read, written = float(kernel.macs), float(kernel.input_bytes), float(kernel.output_bytes)
    weights = float(kernel.weight_bytes)
    if align > 1 and macs and kernel.out_channels:
        outer = _rounded(kernel.out_channels, align)
        inner = 1.0 if kernel.groups > 1 else _rounded(kernel.in_channels, align) if kernel.in_channels > align else 1.0
        macs *= outer * inner
        weights *= outer * inner
        written *= outer
        read *= outer if kernel.groups > 1 else inner
    return (macs / 1e6, (read + written) / 1e5, weights / 1e5, 1.0)


def _rounded(channels: int, align: int) -> float:
    return -(-channels // align) * align / channels


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
        align: channels are rounded up to a multiple of this; chosen by fit.
    """

    kinds: tuple[str, ...]
    cost_ms: Array
    class_cost_ms: dict[str, Array]
    align: int

    @classmethod
    def fit(
        cls,
        terms: Array,
        latency_ms: Array,
        weights: Array,
        kind_ms: Array,
        kinds: Sequence[str],
        align: int,
        strength: float,
    ) -> Roofline:
        """Fit relative errors, weighted.

        Args:
            terms: (n, kinds, 4) of each network.
            latency_ms: (n,).
            weights: (n,) how much each measurement counts.
            kind_ms: (n, kinds) time of each kind inside each network; NaN where the device could not tell.
            strength: of the pull towards the class's costs.
        """
        kind_count = len(kinds)
        allowed = np.array([_TERMS_OF[class_of(kind)] for kind in kinds])
        design, target = _equations(terms * allowed, latency_ms, weights, kind_ms)
        pooling = _pooling(kinds) * allowed.reshape(-1)[:, None]
        pooled = _faintly_pulled(design @ pooling, target)
        start = pooling @ pooled
        # Where the pooled fit gives a term nothing, a kind may still spend a part of the network on it.
        sums = (terms * allowed).reshape(len(terms), -1)
        typical = [
            0.05 * np.median(latency_ms) / np.median(column[column > 0]) if column.any() else 0.0 for column in sums.T
        ]
        reach = np.maximum(np.maximum(start, typical), 1e-9)
        matrix = np.vstack([design, strength * np.diag(1.0 / reach)])
        cost, _ = nnls(matrix, np.concatenate([target, strength * start / reach]), maxiter=50 * matrix.shape[1])
        class_cost = {name: (_pooling([kind]) @ pooled) * _TERMS_OF[name] for name, kind in _EXAMPLES.items()}
        return cls(tuple(kinds), cost.reshape(kind_count, len(TERMS)), class_cost, align)

    def cost_of(self, kind: str) -> Array:
        """(4,) costs of a kind; when it was never measured, the dearest of its class, as nothing vouches for less."""
        if kind in self.kinds:
            return np.asarray(self.cost_ms[self.kinds.index(kind)], dtype=np.float64)
        alike = [
            cost for known, cost in zip(self.kinds, self.cost_ms, strict=True) if class_of(known) == class_of(kind)
        ]
        return np.asarray(np.max([self.class_cost_ms[class_of(kind)], *alike], axis=0), dtype=np.float64)

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


_EXAMPLES = {"dense": "conv", "depthwise": "depthwise", "moving": "copy"}


def _pooling(kinds: Sequence[str]) -> Array:
    """(kinds * 4, 5): which pooled cost each kind's term starts from: MACs by class, then bytes, weights and launches."""
    matrix = np.zeros((len(kinds), len(TERMS), 5))
    for row, kind in enumerate(kinds):
        matrix[row, 0, 1 if class_of(kind) == "depthwise" else 0] = 1.0
        for term in (1, 2, 3):
            matrix[row, term, term + 1] = 1.0
    return matrix.reshape(len(kinds) * len(TERMS), 5)


def _equations(terms: Array, latency_ms: Array, weights: Array, kind_ms: Array) -> tuple[Array, Array]:
    """One row per network and one per known time of a kind in it: errors relative to the network, to both for a kind."""
    n, kind_count, term_count = terms.shape
    rows = [terms.reshape(n, -1) * (weights / latency_ms)[:, None]]
    targets = [weights]
    for kind in range(kind_count):
        known = np.flatnonzero(kind_ms[:, kind] > 0)
        if not len(known):
            continue
        spent = kind_ms[known, kind]
        scale = _SHARE_WEIGHT * weights[known] / np.sqrt(spent * latency_ms[known])
        row = np.zeros((len(known), kind_count, term_count))
        row[:, kind] = terms[known, kind] * scale[:, None]
        rows.append(row.reshape(len(known), -1))
        targets.append(spent * scale)
    return np.vstack(rows), np.concatenate(targets)


def _faintly_pulled(design: Array, target: Array) -> Array:
    """Non-negative least squares with a faint pull to equal shares, so that collinear terms do not take all or nothing."""
    faint = 0.05 * np.sqrt(len(target))
    share = design.mean(axis=0)
    share = np.where(share > 1e-12, share, 1.0)
    goal = np.full(design.shape[1], faint * float(target.mean()) / design.shape[1])
    cost, _ = nnls(np.vstack([design, faint * np.diag(share)]), np.concatenate([target, goal]))
    return np.asarray(cost, dtype=np.float64)
