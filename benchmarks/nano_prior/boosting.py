"""Fit of the correction of the Nano's prior to whole networks: boosted trees on shape and utilisation, per kernel.

There are no measurements of isolated kernels. So the share that the prior gives each kernel of a network's measured time is taken as its
time, trees learn the log ratio to the prior's, the shares are recomputed with the trees, for a few rounds (similar to
expectation maximisation). A step in the time of one kernel, where the library changes its algorithm, is
found because thousands of networks disagree about it in the same direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.model.kernel_correction import KernelCorrection, kernel_cells, kernel_features
from hw_latency_model.model.nano_columns import KernelColumns, joined_columns
from hw_latency_model.model.nano_prior import CLASSES, NAMES, NanoTerms, evaluate, nano_terms
from hw_latency_model.model.trees import BoostedTrees
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

ROUNDS = 3
TREES, BINS, DEPTH, RATE = 120, 48, 6, 0.2


@dataclass(frozen=True)
class NetworkTable:
    """Many networks as one flat list of kernels.

    Attributes:
        columns, terms: of all kernels, one network after the other.
        network: (kernels,) index of the network each belongs to.
        count: of networks.
    """

    columns: KernelColumns
    terms: NanoTerms
    network: Indices
    count: int

    @classmethod
    def of(cls, networks: Sequence[Sequence[KernelSpec]], precision: str) -> NetworkTable:
        columns = joined_columns(networks)
        network = np.repeat(np.arange(len(networks)), [len(kernels) for kernels in networks])
        return cls(columns, nano_terms(columns, precision), network, len(networks))

    def select(self, chosen: Indices) -> NetworkTable:
        """Select networks, in the order of the table."""
        kept = np.isin(self.network, chosen)
        terms = NanoTerms(*(getattr(self.terms, item.name)[kept] for item in fields(self.terms)))
        network = np.unique(self.network[kept], return_inverse=True)[1].reshape(-1)
        return NetworkTable(self.columns.take(kept), terms, network, len(chosen))

    def total(self, kernel_values: Array) -> Array:
        """(networks,) sums over each network's kernels."""
        return np.asarray(np.bincount(self.network, weights=kernel_values, minlength=self.count), dtype=np.float64)


def fit_correction(
    table: NetworkTable,
    parameters: Mapping[str, float],
    latency_ms: Array,
    seed: int = 0,
    *,
    overhead_ms: float = 0.0,
) -> KernelCorrection:
    """Fit the factor on the prior's kernel times.

    Args:
        table: the measured networks.
        parameters: of the prior, by name.
        latency_ms: (networks,) measured.
        seed: of the trees.
        overhead_ms: time of every network beside its kernels; at first counted with its matrix-vector product, of which each has one.
    """
    prior_ms = evaluate(table.terms, np.array([parameters[name] for name in NAMES]))
    features = kernel_features(table.columns, table.terms.klass, prior_ms)
    unique, place = np.unique(features, axis=0, return_inverse=True)
    place = place.reshape(-1)
    ends = table.terms.klass == CLASSES.index("gemv")
    log_factor = np.where(ends, np.log1p(overhead_ms / np.maximum(prior_ms, 1e-9)), 0.0)
    for _ in range(ROUNDS):
        now = prior_ms * np.exp(log_factor)
        total = table.total(now)
        ratio = np.log(latency_ms / total)[table.network]
        weight = now / total[table.network]
        mass = np.bincount(place, weights=weight)
        target = np.bincount(place, weights=weight * (log_factor + ratio)) / np.maximum(mass, 1e-12)
        trees = BoostedTrees.fit(unique, target, mass, trees=TREES, seed=seed, bins=BINS, depth=DEPTH, rate=RATE)
        log_factor = trees.predict(unique)[place]
    return KernelCorrection(_short(trees), np.unique(np.round(kernel_cells(table.columns, table.terms.klass)), axis=0))


def _short(trees: BoostedTrees) -> BoostedTrees:
    """Copy with leaf values of five decimals, and thresholds that are exact: a smaller file."""
    return BoostedTrees(trees.columns, trees.thresholds, np.round(trees.values, 5))
