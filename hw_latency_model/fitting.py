"""Fitting a latency model: from measurements to a prior, a correction, and what cross-validation says about both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.gaussian_process import GaussianProcess
from hw_latency_model.roofline import Roofline, class_of, inside_equations, network_terms
from hw_latency_model.types import KernelSpec, Measurement

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

ALIGNMENTS = (1, 8, 16)
STRENGTHS = (0.03, 0.1, 0.3)
SPEED_EXPONENTS = (1.0, 0.0, 0.5, 1.5, 2.0, 3.0)
MIN_NETWORKS_PER_KIND = 2
EXTRAPOLATION_LOG_STD = 0.25
"""Added to the log standard deviation per e-fold outside the measured sizes."""
UNKNOWN_LOG_STD = 1.0
"""Log standard deviation of the time of kernels whose kind was never measured: a factor of e either way."""


@dataclass(frozen=True)
class Observation:
    """A network with all its measurements.

    Attributes:
        kernels: of the network.
        kernel_shares: share of the time of each kernel; empty where unknown.
        latency_ms: at the machine's median speed; raw_ms: as measured.
        noise_rel: how far the latency may be off; noisy: every measurement was marked so.
    """

    kernels: tuple[KernelSpec, ...]
    kernel_shares: tuple[float, ...]
    latency_ms: float
    raw_ms: tuple[float, ...]
    noise_rel: float
    noisy: bool


@dataclass(frozen=True)
class Fit:
    """The two parts of a model, and the measured range of sizes (rows: low, high) that they were fitted on."""

    prior: Roofline
    correction: GaussianProcess
    size_range: Array

    def predict_log(
        self, kernels: Sequence[KernelSpec], kernel_ms: Array | None = None
    ) -> tuple[float, float, float, float]:
        """(log ms, log std, share of time of unknown kinds, e-folds outside the range) of a network."""
        cost = self.prior.kernel_ms(kernels) if kernel_ms is None else kernel_ms
        total = float(cost.sum())
        features = network_features(kernels, cost)
        mean, std = self.correction.predict(features[None, :])
        limit = 3.0 * np.sqrt(self.correction.signal_var)
        known = set(self.prior.kinds) | {"view"}
        unknown = sum(ms for kernel, ms in zip(kernels, cost, strict=True) if kernel.kind not in known) / total
        sizes = features[: self.size_range.shape[1]]
        outside = float(np.max(np.maximum(self.size_range[0] - sizes, sizes - self.size_range[1]), initial=0.0))
        spread = np.sqrt(float(std[0]) ** 2 + (EXTRAPOLATION_LOG_STD * outside) ** 2 + (UNKNOWN_LOG_STD * unknown) ** 2)
        return float(np.log(total) + np.clip(mean[0], -limit, limit)), float(spread), float(unknown), outside


SIZE_FEATURES = 5


def network_features(kernels: Sequence[KernelSpec], kernel_ms: Array) -> Array:
    """(10,): logs of prior time, MACs, activation and weight traffic, launches; then what kind of network it is."""
    total = max(float(kernel_ms.sum()), 1e-9)
    macs = sum(kernel.macs for kernel in kernels)
    moved = sum(kernel.activation_bytes for kernel in kernels)
    weights = sum(kernel.weight_bytes for kernel in kernels)
    launches = sum(kernel.kind != "view" for kernel in kernels)
    shares: dict[str, float] = defaultdict(float)
    for kernel, ms in zip(kernels, kernel_ms.tolist(), strict=True):
        shares[class_of(kernel.kind)] += ms / total
        if kernel.kind == "pointwise":
            shares["pointwise"] += ms / total
    sizes = [np.log(total), np.log1p(macs), np.log1p(moved), np.log1p(weights), np.log1p(launches)]
    return np.array(
        [
            *sizes,
            np.log1p(macs) - np.log1p(moved),
            *(shares[name] for name in ("dense", "depthwise", "moving", "pointwise")),
        ]
    )


def observe(measurements: Sequence[Measurement], exponent: float = 1.0) -> tuple[list[Observation], float]:
    """One observation per network, and the reference's median in ms.

    Measurements of one network are averaged, so that a network measured twice cannot vouch for itself. Each latency is
    brought to the median speed of the machine by the reference that ran around it; the raw values are kept beside it.

    Args:
        measurements: with their kernels; at least one.
        exponent: how much harder than the reference a network is hit when the machine slows down: 1 means alike.
    """
    base_ms = float(np.median([item.reference_ms for item in measurements]))
    groups: dict[tuple[KernelSpec, ...], list[Measurement]] = defaultdict(list)
    for item in measurements:
        groups[tuple(sorted(map(_anonymous, item.kernels), key=repr))].append(item)
    observations = []
    for items in groups.values():
        first = next((item for item in items if item.kernel_shares), items[0])
        level = [item.latency_ms_p50 * (base_ms / item.reference_ms) ** exponent for item in items]
        observations.append(
            Observation(
                kernels=first.kernels,
                kernel_shares=first.kernel_shares,
                latency_ms=float(np.exp(np.mean(np.log(level)))),
                raw_ms=tuple(item.latency_ms_p50 for item in items),
                noise_rel=min(item.noise_rel for item in items),
                noisy=all(item.noisy for item in items),
            )
        )
    return observations, base_ms


def _anonymous(kernel: KernelSpec) -> KernelSpec:
    return KernelSpec.from_dict({**kernel.to_dict(), "name": ""})


def observe_best(measurements: Sequence[Measurement]) -> tuple[list[Observation], float, float]:
    """``observe`` with the exponent that makes the networks best predictable from one another: (..., ..., exponent)."""
    observations, base_ms = observe(measurements)
    if len(observations) < 2 * MIN_NETWORKS_PER_KIND:
        return observations, base_ms, 1.0
    align, strength = Fitter(observations).choose()
    best = (float("inf"), SPEED_EXPONENTS[0])
    for exponent in SPEED_EXPONENTS:
        error = Fitter(observe(measurements, exponent)[0], [align]).prior_error(align, strength)
        if error < 0.97 * best[0]:
            best = (error, exponent)
    return observe(measurements, best[1])[0], base_ms, best[1]


class Fitter:
    """Fits on any subset of the observations; terms are computed once per alignment."""

    def __init__(self, observations: Sequence[Observation], alignments: Sequence[int] = ALIGNMENTS) -> None:
        self.observations = list(observations)
        self.latency_ms = np.array([item.latency_ms for item in self.observations])
        self.weights = np.array([_weight(item) for item in self.observations])
        self.kinds = tuple(sorted({k.kind for item in self.observations for k in item.kernels} - {"view"}))
        self.terms = {
            align: np.stack([network_terms(item.kernels, self.kinds, align) for item in self.observations])
            for align in alignments
        }
        self.inside = {
            align: np.stack([_inside(item, self.kinds, align) for item in self.observations]) for align in alignments
        }

    def choose(self) -> tuple[int, float]:
        """Alignment and pull strength with the least cross-validated error of the prior alone."""
        best = (float("inf"), next(iter(self.terms)), STRENGTHS[1])
        for align, strength in product(self.terms, STRENGTHS):
            error = self.prior_error(align, strength)
            if error < 0.99 * best[0]:
                best = (error, align, strength)
        return best[1], best[2]

    def prior_error(self, align: int, strength: float) -> float:
        """Mean absolute log error of the prior alone, ten-fold cross-validated, better measurements counting more."""
        logs = self._honest_prior(np.arange(len(self.observations)), align, strength, folds=10)
        return float(np.average(np.abs(logs - np.log(self.latency_ms)), weights=self.weights))

    def fit(self, chosen: Indices, align: int, strength: float) -> Fit:
        """Prior and correction from the observations with these indices."""
        prior = self._prior(chosen, align, strength)
        networks = [self.observations[index].kernels for index in chosen]
        costs = [prior.kernel_ms(kernels) for kernels in networks]
        features = np.stack([network_features(kernels, cost) for kernels, cost in zip(networks, costs, strict=True)])
        residuals = np.log(self.latency_ms[chosen]) - self._honest_prior(chosen, align, strength)
        correction = GaussianProcess.fit(features, residuals, 1.0 / self.weights[chosen] ** 2)
        sizes = features[:, :SIZE_FEATURES]
        return Fit(prior, correction, np.stack([sizes.min(axis=0), sizes.max(axis=0)]))

    def _honest_prior(self, chosen: Indices, align: int, strength: float, *, folds: int = 5) -> Array:
        """(n,) logs of what priors that did not see a network say of it: its own residual would be too small."""
        logs = np.zeros(len(chosen))
        for held in self._folds(folds, len(chosen)):
            prior = self._prior(np.delete(chosen, held), align, strength)
            logs[held] = [np.log(prior.kernel_ms(self.observations[chosen[index]].kernels).sum()) for index in held]
        return logs

    def leave_one_out(self, align: int, strength: float) -> tuple[Array, Array]:
        """(n,) log predictions and log standard deviations of each network by a model that never saw it."""
        everything = np.arange(len(self.observations))
        rows = [
            self.fit(np.delete(everything, index), align, strength).predict_log(item.kernels)[:2]
            for index, item in enumerate(self.observations)
        ]
        result = np.array(rows)
        return result[:, 0], result[:, 1]

    def _prior(self, chosen: Indices, align: int, strength: float) -> Roofline:
        present = [index for index, kind in enumerate(self.kinds) if kind in self._known(chosen)]
        kinds = [self.kinds[index] for index in present]
        terms = self.terms[align][chosen][:, present]
        inside = self.inside[align][chosen][:, present]
        return Roofline.fit(terms, self.latency_ms[chosen], self.weights[chosen], inside, kinds, align, strength)

    def _known(self, chosen: Indices) -> set[str]:
        counts = (next(iter(self.terms.values()))[chosen][:, :, -1] > 0).sum(axis=0)
        return {kind for kind, count in zip(self.kinds, counts, strict=True) if count >= MIN_NETWORKS_PER_KIND}

    @staticmethod
    def _folds(count: int, size: int) -> list[Indices]:
        order = np.random.default_rng(0).permutation(size)
        return [fold for fold in np.array_split(order, min(count, size)) if len(fold)]


def _inside(item: Observation, kinds: Sequence[str], align: int) -> Array:
    shares = np.array(item.kernel_shares) if item.kernel_shares else np.zeros(len(item.kernels))
    return inside_equations(item.kernels, shares * item.latency_ms, item.latency_ms, kinds, align)


def _weight(item: Observation) -> float:
    return float(1.0 / np.sqrt(1.0 + (item.noise_rel / 0.05) ** 2) * (0.5 if item.noisy else 1.0))
