"""Nano model in FP32 from measured campaigns of convolutional networks: prior, correction, and intervals from campaigns left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.nano_prior.boosting import NetworkTable, fit_correction
from benchmarks.nano_prior.convnets import ConvNet
from benchmarks.nano_prior.regression import Source, regress
from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.nano_prior import DEFAULTS, NanoPrior
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

PRIOR_NETWORKS = 800
"""Number of networks for the fit of the prior's parameters; the correction uses more."""
PER_CAMPAIGN = 1500
INNER_PER_CAMPAIGN = 600
"""Networks of a campaign that a correction is fitted on at most: of the model, and of those that calibrate its interval."""
JUDGED = 300
"""Networks of each campaign left out that calibrate the interval."""


@dataclass(frozen=True)
class LeftOut:
    """Errors on campaigns left out of the fit, one campaign after the other.

    Attributes:
        log_error: (n,) of predicted over measured.
        novelty: (n,) share of the time in kernels unlike the measured ones.
        weight: (n,) 1 over the campaign's number of networks.
    """

    log_error: Array
    novelty: Array
    weight: Array

    def half_width(self, level: float) -> float:
        """Return the half width in e-folds that holds ``level`` of the networks, all campaigns counted alike."""
        order = np.argsort(np.abs(self.log_error))
        share = np.cumsum(self.weight[order]) / self.weight.sum()
        return float(np.abs(self.log_error)[order][min(int(np.searchsorted(share, level)), len(order) - 1)])


class Campaigns:
    """Measured networks by campaign, read into kernels once.

    Args:
        networks: of all campaigns.
        beside: other networks in FP32 that the prior's parameters are fitted on.
        center: the prior's parameters before the fit, by name.
        seed: of the choice of networks, and of the trees.
    """

    def __init__(
        self,
        networks: Sequence[ConvNet],
        beside: Sequence[Source] = (),
        center: Mapping[str, float] = DEFAULTS,
        seed: int = 0,
    ) -> None:
        self.networks = networks
        self.latency_ms = np.array([network.latency_ms for network in networks])
        self.campaign = np.array([network.campaign for network in networks])
        self.names = tuple(sorted(set(self.campaign.tolist())))
        self._beside, self._center, self._seed = tuple(beside), center, seed
        self._table = NetworkTable.of([network.kernels for network in networks], "fp32")

    def fit(self, without: frozenset[str] = frozenset(), *, per_campaign: int = PER_CAMPAIGN) -> NanoPrior:
        """Fit prior and correction to all campaigns but those named."""
        names = [name for name in self.names if name not in without]
        few = np.concatenate([self.some(name, max(1, PRIOR_NETWORKS // len(names))) for name in names])
        source = Source(
            "campaigns",
            [self.networks[index].kernels for index in few],
            self.latency_ms[few],
            "fp32",
            count_as=400,
            scale_log_std=0.01,
            overhead_ms=1.0,
        )
        found = regress([source, *self._beside], max_evaluations=10, center=self._center)
        chosen = np.sort(np.concatenate([self.some(name, per_campaign) for name in names]))
        correction = fit_correction(
            self._table.select(chosen),
            found.parameters,
            self.latency_ms[chosen],
            self._seed,
            overhead_ms=found.overhead_ms[source.name],
        )
        return NanoPrior((), "fp32", found.parameters, correction)

    def left_out(self, without: frozenset[str] = frozenset()) -> LeftOut:
        """Predict each campaign, but those named, by a fit to the others."""
        errors, novelty, weights = [], [], []
        for name in self.names:
            if name in without:
                continue
            prior = self.fit(without | {name}, per_campaign=INNER_PER_CAMPAIGN)
            judged = self.some(name, JUDGED)
            table = KernelTable.join([KernelTable.of(self.networks[index].kernels) for index in judged])
            costs = prior.table_ms(table)
            errors.append(np.log(table.sums(costs) / self.latency_ms[judged]))
            novelty.append(prior.novelty(table, costs))
            weights.append(np.full(len(judged), 1.0 / len(judged)))
        return LeftOut(*(np.concatenate(part) for part in (errors, novelty, weights)))

    def kernels(self, without: frozenset[str] = frozenset()) -> list[Sequence[KernelSpec]]:
        """Kernels of some networks of each campaign but those named, for the range of sizes."""
        names = [name for name in self.names if name not in without]
        return [self.networks[index].kernels for name in names for index in self.some(name, JUDGED)]

    def some(self, name: str, count: int) -> Indices:
        """Choose networks of a campaign at random, the same at every call."""
        members = np.flatnonzero(self.campaign == name)
        return np.sort(np.random.default_rng(self._seed).permutation(members)[:count])
