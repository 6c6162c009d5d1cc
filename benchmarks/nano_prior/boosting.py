"""Correction of the Nano's prior, learned from whole networks: boosted trees on shape and utilisation, per kernel.

There are no measurements of isolated kernels. So the share that the prior gives each kernel of a network's measured time is taken as its
time, trees learn the log ratio to the prior's, the shares are recomputed with the trees, for a few rounds (similar to
expectation maximisation). A step in the time of one kernel, where the library changes its algorithm, is
found because thousands of networks disagree about it in the same direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks.nano_prior.regression import Source, regress
from hw_latency_model.model.nano_columns import KernelColumns, joined_columns
from hw_latency_model.model.nano_prior import NAMES, NanoTerms, evaluate, nano_terms
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

ROUNDS = 4
PRIOR_NETWORKS = 800
"""Number of networks for the fit of the prior's parameters; the trees use all."""


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

    def total(self, kernel_values: Array) -> Array:
        """(networks,) sums over each network's kernels."""
        return np.asarray(np.bincount(self.network, weights=kernel_values, minlength=self.count), dtype=np.float64)


def kernel_features(columns: KernelColumns, terms: NanoTerms, prior_ms: Array) -> Array:
    """Return features (n, 14): shape, its fit to tiles and vectors, and the prior."""
    height = columns.height
    return np.stack(
        [
            terms.klass.astype(np.float64),
            np.log2(columns.pixels),
            height,
            columns.side,
            columns.stride,
            np.log2(columns.inner),
            np.log2(columns.outer),
            height % 2,
            height % 4,
            height % 8,
            columns.outer % 64,
            np.log2(np.maximum(terms.megabytes, 1e-6)),
            np.log2(np.maximum(prior_ms, 1e-6)),
            (columns.pixels % 128) / 128,
        ],
        axis=1,
    )


@dataclass(frozen=True)
class BoostedKernels:
    """Prior and trees, fitted on measured networks of one device in one precision.

    Attributes:
        values: the prior's parameters in the order of ``NAMES``.
        overhead_ms: what every network pays beside its kernels.
        trees: log of a kernel's time over the prior's.
        precision: of the networks.
    """

    values: Array
    overhead_ms: float
    trees: HistGradientBoostingRegressor
    precision: str

    @classmethod
    def fit(cls, table: NetworkTable, sources: Sequence[Source], latency_ms: Array, seed: int = 0) -> BoostedKernels:
        """Fit on the networks of ``table``; ``sources`` are those the prior's parameters are fitted on."""
        found = regress(sources)
        values = np.array([found.parameters[name] for name in NAMES])
        overhead = float(np.mean(list(found.overhead_ms.values())))
        prior_ms = evaluate(table.terms, values)
        features = kernel_features(table.columns, table.terms, prior_ms)
        unique, place = np.unique(features, axis=0, return_inverse=True)
        place = place.reshape(-1)
        log_gain = np.zeros(len(prior_ms))
        for _ in range(ROUNDS):
            now = prior_ms * np.exp(log_gain)
            total = table.total(now) + overhead
            ratio = np.log(latency_ms / total)[table.network]
            weight = now / total[table.network]
            mass = np.bincount(place, weights=weight)
            target = np.bincount(place, weights=weight * (log_gain + ratio)) / np.maximum(mass, 1e-12)
            trees = HistGradientBoostingRegressor(
                max_iter=250,
                learning_rate=0.08,
                max_leaf_nodes=31,
                min_samples_leaf=15,
                l2_regularization=1.0,
                early_stopping=False,
                random_state=seed,
            )
            trees.fit(unique, target, sample_weight=mass)
            log_gain = trees.predict(unique)[place]
        return cls(values, overhead, trees, sources[0].precision)

    def predict_ms(self, table: NetworkTable) -> Array:
        """(networks,) milliseconds."""
        prior_ms = evaluate(table.terms, self.values)
        features = kernel_features(table.columns, table.terms, prior_ms)
        return table.total(prior_ms * np.exp(self.trees.predict(features))) + self.overhead_ms
