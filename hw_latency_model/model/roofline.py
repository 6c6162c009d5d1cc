"""Typed roofline prior: each kind of kernel has non-negative costs per MAC, per byte moved, and per launch.

The terms are added (compute and traffic overlap little within one small kernel on one core) and fitted to whole networks by
non-negative least squares. Each kind's costs are shrunk towards the pooled costs of its class, so that forty networks are
enough for a dozen kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.kinds import class_of
from hw_latency_model.kernels.table import LAUNCHES, KernelTable
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]

TERMS = ("macs", "activation_bytes", "weight_bytes", "launches")

_TERMS_OF = {
    "dense": (True, True, True, True),
    "depthwise": (True, True, False, True),
    "memory_bound": (False, True, False, True),
}
"""Cost terms of each class; memory-bound kernels have no MACs."""

_INSIDE_WEIGHT = 0.5
"""Weight of a network's kernel profile relative to its total."""


def kernel_terms(kernels: Sequence[KernelSpec], align: int) -> Array:
    """Compute terms (n, 4) of each kernel: MMACs, 100 kB of activations, 100 kB of weights, 1 launch; all 0 for a view."""
    return table_terms(KernelTable.of(kernels), align)


def table_terms(table: KernelTable, align: int) -> Array:
    """Compute ``kernel_terms`` of a table.

    The channels of convolutions are rounded up to ``align``, as runtimes compute, read and write whole blocks.
    """
    macs, read, written, weights, inner, outer, groups = table.facts.T[:7]
    blocks = (macs > 0) & (outer > 0)
    more_out = np.where(blocks, _rounded_up(outer, align), 1.0)
    more_in = np.where(blocks & (groups <= 1) & (inner > align), _rounded_up(inner, align), 1.0)
    both = more_in * more_out
    terms = np.empty((len(table), len(TERMS)))
    terms[:, 0] = macs * both / 1e6
    terms[:, 1] = (read * np.where(groups > 1, more_out, more_in) + written * more_out) / 1e5
    terms[:, 2] = weights * both / 1e5
    terms[:, 3] = table.facts[:, LAUNCHES]
    return terms


def _rounded_up(channels: Array, align: int) -> Array:
    """Factor by which channels grow when rounded up."""
    return np.asarray(np.ceil(channels / align) * align / np.maximum(channels, 1.0), dtype=np.float64)


def network_terms(kernels: Sequence[KernelSpec], kinds: Sequence[str], align: int) -> Array:
    """Sum the terms over the kernels of each kind, (kinds, 4), without views."""
    index = {kind: row for row, kind in enumerate(kinds)}
    total = np.zeros((len(kinds) + 1, len(TERMS)))
    np.add.at(total, [index.get(kernel.kind, len(kinds)) for kernel in kernels], kernel_terms(kernels, align))
    return total[:-1]


_STORED_CLASS = {"memory_bound": "moving"}
"""Names of kernel classes in the file of a model, where they differ."""


@dataclass(frozen=True)
class Roofline:
    """Milliseconds per unit of each term.

    Attributes:
        kinds: fitted kinds.
        cost_ms: (kinds, 4), not negative.
        class_cost_ms: (4,) by class: costs of unmeasured kinds.
        align: multiple that channels are rounded up to; chosen by fit.
    """

    prior_type: ClassVar[str] = "roofline"

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
        inside: Array,
        kinds: Sequence[str],
        align: int,
        strength: float,
    ) -> Roofline:
        """Fit by weighted least squares of relative errors.

        Args:
            terms: (n, kinds, 4) of each network.
            latency_ms: (n,).
            weights: (n,) weight of each measurement.
            inside: (n, kinds, 5, 5) ``inside_equations`` of each network's kernel profile; zeros without one.
            strength: strength of the shrinkage towards the class's costs.
        """
        from scipy.optimize import nnls

        kind_count = len(kinds)
        allowed = np.array([_TERMS_OF[class_of(kind)] for kind in kinds])
        design, target = _equations(terms, latency_ms, weights, inside)
        design = design * allowed.reshape(-1)
        pooling = _pooling(kinds) * allowed.reshape(-1)[:, None]
        pooled = _faintly_pulled(design @ pooling, target, len(terms))
        start = pooling @ pooled
        # A term with zero pooled cost may still take a share of a network's time for a kind.
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
        """Costs (4,) of a kind; for an unmeasured kind the highest of its class, as a conservative choice."""
        if kind not in self._costs:
            group = class_of(kind)
            alike = [cost for known, cost in zip(self.kinds, self.cost_ms, strict=True) if class_of(known) == group]
            self._costs[kind] = np.asarray(np.max([self.class_cost_ms[group], *alike], axis=0), dtype=np.float64)
        return self._costs[kind]

    @cached_property
    def _costs(self) -> dict[str, Array]:
        return dict(zip(self.kinds, self.cost_ms, strict=True))

    def kernel_ms(self, kernels: Sequence[KernelSpec]) -> Array:
        """Predict milliseconds of each kernel, (n,); views cost nothing."""
        return self.table_ms(KernelTable.of(kernels)) if kernels else np.zeros(0)

    def table_ms(self, table: KernelTable) -> Array:
        """Predict ``kernel_ms`` of a table."""
        costs = np.array([self.cost_of(kind) for kind in table.names])
        terms = table.once(f"terms {self.align}", lambda part: table_terms(part, self.align))
        return np.asarray(np.einsum("ij,ij->i", terms, costs[table.kind]), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        return {
            "terms": list(TERMS),
            "kinds": list(self.kinds),
            "cost_ms": self.cost_ms.tolist(),
            "class_cost_ms": {
                _STORED_CLASS.get(name, name): cost.tolist() for name, cost in self.class_cost_ms.items()
            },
            "align": self.align,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Roofline:
        names = {stored: name for name, stored in _STORED_CLASS.items()}
        return cls(
            tuple(value["kinds"]),
            np.array(value["cost_ms"], dtype=np.float64).reshape(len(value["kinds"]), len(TERMS)),
            {names.get(name, name): np.array(cost, dtype=np.float64) for name, cost in value["class_cost_ms"].items()},
            int(value["align"]),
        )


_EXAMPLES = {"dense": "conv", "depthwise": "depthwise", "memory_bound": "copy"}


def _pooling(kinds: Sequence[str]) -> Array:
    """Pooling matrix (kinds * 4, 5) from pooled costs to terms of each kind: MACs by class, then bytes, weights, launches."""
    matrix = np.zeros((len(kinds), len(TERMS), 5))
    for row, kind in enumerate(kinds):
        matrix[row, 0, 1 if class_of(kind) == "depthwise" else 0] = 1.0
        for term in (1, 2, 3):
            matrix[row, term, term + 1] = 1.0
    return matrix.reshape(len(kinds) * len(TERMS), 5)


def inside_equations(
    kernels: Sequence[KernelSpec], kernel_ms: Array, latency_ms: float, kinds: Sequence[str], align: int
) -> Array:
    """Compute the normal equations (kinds, 5, 5) of ``terms · cost = ms`` of a network's profiled kernels, summed by kind.

    Each equation is scaled so that an error counts relative to the kernel and to the network in equal parts; kernels
    without profiled time are left out.
    """
    index = {kind: row for row, kind in enumerate(kinds)}
    total = np.zeros((len(kinds) + 1, len(TERMS) + 1, len(TERMS) + 1))
    rows = np.column_stack([kernel_terms(kernels, align), kernel_ms])
    scale = np.where(kernel_ms > 0, 1.0 / np.sqrt(np.maximum(kernel_ms, 1e-6) * latency_ms), 0.0)
    rows = rows * scale[:, None]
    np.add.at(total, [index.get(kernel.kind, len(kinds)) for kernel in kernels], rows[:, :, None] * rows[:, None, :])
    return total[:-1]


def _equations(terms: Array, latency_ms: Array, weights: Array, inside: Array) -> tuple[Array, Array]:
    """Build one row per network, relative to its time, and five per kind that represent all profiled kernels of that kind."""
    n, kind_count, term_count = terms.shape
    rows = [terms.reshape(n, -1) * (weights / latency_ms)[:, None]]
    targets = [weights]
    gram = _INSIDE_WEIGHT**2 * np.einsum("n,nkij->kij", weights**2, inside)
    for kind in np.flatnonzero(gram[:, -1, -1] > 0):
        # Any square root of the normal equations gives the same least squares; this one also exists for singular ones.
        values, vectors = np.linalg.eigh(gram[kind])
        root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        row = np.zeros((term_count + 1, kind_count, term_count))
        row[:, kind] = root[:, :-1]
        rows.append(row.reshape(term_count + 1, -1))
        targets.append(root[:, -1])
    return np.vstack(rows), np.concatenate(targets)


def _faintly_pulled(design: Array, target: Array, networks: int) -> Array:
    """Solve non-negative least squares with a slight ridge towards equal shares, which splits the cost of collinear terms."""
    from scipy.optimize import nnls

    faint = 0.05 * np.sqrt(networks)
    share = design[:networks].mean(axis=0)
    share = np.where(share > 1e-12, share, 1.0)
    goal = np.full(design.shape[1], faint * float(target[:networks].mean()) / design.shape[1])
    cost, _ = nnls(np.vstack([design, faint * np.diag(share)]), np.concatenate([target, goal]))
    return np.asarray(cost, dtype=np.float64)
