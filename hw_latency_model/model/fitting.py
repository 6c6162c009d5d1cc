"""Fitting of a latency model: prior and correction from measurements, cross-validation, updates by further measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.bounds import PhysicalBounds
from hw_latency_model.model.conformal import Scores
from hw_latency_model.model.gaussian_process import GaussianProcess
from hw_latency_model.model.learned import MIN_SHARE, LearnedPrior
from hw_latency_model.model.network_features import (
    FEATURES,
    GROUPS,
    SIZE_FEATURES,
    network_features,
    network_groups,
)
from hw_latency_model.model.observations import Observation, observe
from hw_latency_model.model.prior import KernelPrior
from hw_latency_model.model.roofline import Roofline, inside_equations, network_terms
from hw_latency_model.model.state import Fit, FitQuality, ModelState
from hw_latency_model.types import KernelSpec, Measurement, fingerprint_id
from search_spaces._common.errors import UserError

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
State = TypeVar("State", bound=ModelState)

MIN_MEASUREMENTS = 5
ALIGNMENTS = (1, 8, 16)
STRENGTHS = (0.03, 0.1, 0.3)
SPEED_EXPONENTS = (1.0, 0.0, 0.5, 1.5, 2.0, 3.0)
MIN_NETWORKS_PER_KIND = 2
MIN_NETWORKS_TO_LEARN = 20
"""Minimum number of networks with kernel profiles for a learned prior instead of a roofline."""
NEAR_FOLDS = 10
FAR_FOLDS = 20


def fit_state(
    measurements: Sequence[Measurement],
    *,
    device: str,
    fingerprint: Mapping[str, Any],
    level: float,
    target: str,
    prior: KernelPrior | None,
) -> ModelState:
    """Fit a model's state; see ``LatencyModel.fit``."""
    check_measurements(measurements, device, fingerprint_id(fingerprint))
    observations, base_ms, exponent = _observations(measurements, target, prior)
    if len(observations) < MIN_MEASUREMENTS:
        raise UserError(
            f"a latency model needs at least {MIN_MEASUREMENTS} networks, {len(observations)} were measured; "
            f"run `paretoseg calibrate --device {device}` again with more time."
        )
    fitter = Fitter(observations, prior=prior)
    result, validation = fitter.fit(*fitter.choose())
    scores = validation.scores(observations)
    margins = scores.margins(level)
    coverage = float(np.mean(scores.near <= margins.at(scores.near_distance)))
    return ModelState(
        device=device,
        fingerprint=dict(fingerprint),
        fit_result=result,
        margins=margins,
        quality=_quality(fitter, validation, measurements, coverage, base_ms, exponent),
        fitted_at=timestamp(),
        level=level,
        precision=measurements[0].precision,
        target=target,
        scores=scores,
        group_margins=scores.group_margins(level, GROUPS),
        bounds=fitter.bounds(),
    )


def uncalibrated_fit(prior: KernelPrior, log_std: float, networks: Sequence[Sequence[KernelSpec]]) -> Fit:
    """A prior without a correction: log standard deviation ``log_std`` everywhere, wider outside the networks' sizes."""
    size_range = np.zeros((2, 0))
    if networks:
        table = KernelTable.join([KernelTable.of(kernels) for kernels in networks])
        sizes = network_features(table, prior.table_ms(table))[:, :SIZE_FEATURES]
        size_range = np.stack([sizes.min(axis=0), sizes.max(axis=0)])
    return Fit(prior, GaussianProcess.none(FEATURES, log_std), size_range)


def check_measurements(measurements: Sequence[Measurement], device: str, wanted: str) -> None:
    """Check that measurements belong together and to a device with the fingerprint's id ``wanted``.

    Raises:
        ValueError: a measurement has no kernels, or is of another device, fingerprint or precision.
    """
    for item in measurements:
        if item.device != device or item.fingerprint_id != wanted:
            raise ValueError(
                f"{item.subject} was measured on {item.device} (fingerprint {item.fingerprint_id}), "
                f"not on {device} ({wanted}); measurements of different machines are never mixed"
            )
        if not item.kernels:
            raise ValueError(f"the measurement of {item.subject} has no kernels to fit on")
        if item.precision != measurements[0].precision:
            raise ValueError(
                f"{item.subject} is {item.precision}, others are {measurements[0].precision}; fit them apart"
            )


def _observations(
    measurements: Sequence[Measurement], target: str, prior: KernelPrior | None
) -> tuple[list[Observation], float, float]:
    if not measurements:
        return [], 0.0, 1.0
    if prior is None:
        return observe_best(measurements, target)
    return (*observe(measurements, target), 1.0)


def _quality(
    fitter: Fitter,
    validation: Validation,
    measurements: Sequence[Measurement],
    coverage: float,
    base_ms: float,
    exponent: float,
) -> FitQuality:
    values = np.log(fitter.values)
    errors = np.abs(np.expm1(validation.near_log - values))
    family_errors = np.abs(np.expm1(validation.far_log - values)) if len(validation.far_log) else errors
    low, high = np.percentile([item.reference_ms for item in measurements], [10, 90])
    return FitQuality(
        networks=len(errors),
        median_error_rel=float(np.median(errors)),
        within10=float(np.mean(errors <= 0.1)),
        coverage=coverage,
        noise_rel=float(np.median([item.noise_rel for item in measurements])),
        reference_ms=base_ms,
        speed_exponent=exponent,
        reference_drift_rel=float((high - low) / base_ms) if base_ms else 0.0,
        families=int(fitter.families.max()) + 1,
        family_error_rel=float(np.median(family_errors)),
        family_within10=float(np.mean(family_errors <= 0.1)),
    )


def timestamp() -> str:
    """The time now: ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Validation:
    """Cross-validated predictions, each (n,): leave-one-out (near) and leave-family-out (far).

    Attributes:
        near_log, near_std, far_log, far_std: log predictions and log standard deviations; the far ones are empty for a
            single family.
        near_distance, far_distance: distance to the nearest training network.
        group: index of each network's group in ``GROUPS``.
    """

    near_log: Array
    near_std: Array
    near_distance: Array
    far_log: Array
    far_std: Array
    far_distance: Array
    group: Indices

    def scores(self, observations: Sequence[Observation]) -> Scores:
        """Compute the errors against every raw measurement, in standard deviations."""
        rows = [index for index, item in enumerate(observations) for _ in item.raw]
        raw = np.log([value for item in observations for value in item.raw])
        near = np.abs(raw - self.near_log[rows]) / self.near_std[rows]
        if not len(self.far_log):
            return Scores(near, self.near_distance[rows], np.zeros(0), np.zeros(0), near_group=self.group[rows])
        far = np.abs(raw - self.far_log[rows]) / self.far_std[rows]
        families = len({item.family for item in observations})
        groups = self.group[rows]
        return Scores(near, self.near_distance[rows], far, self.far_distance[rows], families, groups, groups)


def observe_best(measurements: Sequence[Measurement], target: str) -> tuple[list[Observation], float, float]:
    """Call ``observe`` with the exponent of the least cross-validated error; returns (..., ..., exponent)."""
    observations, base_ms = observe(measurements, target)
    if len(observations) < 2 * MIN_NETWORKS_PER_KIND:
        return observations, base_ms, 1.0
    align, strength = Fitter(observations).choose()
    best = (float("inf"), SPEED_EXPONENTS[0])
    for exponent in SPEED_EXPONENTS:
        error = Fitter(observe(measurements, target, exponent)[0], [align]).prior_error(align, strength)
        if error < 0.97 * best[0]:
            best = (error, exponent)
    return observe(measurements, target, best[1])[0], base_ms, best[1]


class Fitter:
    """Fits on any subset of the observations; terms are computed once per alignment.

    Args:
        observations: one per network.
        alignments: channel alignments to choose from.
        prior: fixed prior instead of a fitted one.
    """

    def __init__(
        self,
        observations: Sequence[Observation],
        alignments: Sequence[int] = ALIGNMENTS,
        *,
        prior: KernelPrior | None = None,
    ) -> None:
        self.observations = list(observations)
        self.values = np.array([item.value for item in self.observations])
        self.weights = np.array([_weight(item) for item in self.observations])
        self.tables = [KernelTable.of(item.kernels) for item in self.observations]
        self.fixed = prior
        self.kinds = tuple(sorted({kind for table in self.tables for kind in table.names} - {"", "view"}))
        self.timed = np.array([bool(item.kernel_shares) for item in self.observations], dtype=bool)
        self.shares = [
            np.array(item.kernel_shares) if item.kernel_shares else np.zeros(len(item.kernels))
            for item in self.observations
        ]
        fits = () if prior is not None else alignments
        self.terms = {
            align: np.stack([network_terms(item.kernels, self.kinds, align) for item in self.observations])
            for align in fits
        }
        self.inside = {
            align: np.stack(
                [
                    inside_equations(item.kernels, shares * item.value, item.value, self.kinds, align)
                    for item, shares in zip(self.observations, self.shares, strict=True)
                ]
            )
            for align in fits
        }
        names = {name: index for index, name in enumerate(dict.fromkeys(item.family for item in self.observations))}
        self.families: Indices = np.array([names[item.family] for item in self.observations], dtype=np.intp)

    def choose(self) -> tuple[int, float]:
        """Choose alignment and regularisation strength with the least cross-validated error of the roofline alone."""
        best = (float("inf"), next(iter(self.terms), 1), STRENGTHS[1])
        for align, strength in product(self.terms, STRENGTHS):
            error = self.prior_error(align, strength)
            if error < 0.99 * best[0]:
                best = (error, align, strength)
        return best[1], best[2]

    def prior_error(self, align: int, strength: float) -> float:
        """Compute the ten-fold cross-validated mean absolute log error of the roofline, weighted by measurement quality."""
        logs = np.zeros(len(self.observations))
        for held in self._random_folds():
            prior = self._roofline(self._without(held), align, strength)
            logs[held] = self._logs(prior, held)[0]
        return float(np.average(np.abs(logs - np.log(self.values)), weights=self.weights))

    def fit(self, align: int, strength: float) -> tuple[Fit, Validation]:
        """Fit prior and correction to all observations, and cross-validate such a pair.

        The correction is fitted to cross-validated residuals of the prior, as those of the final prior would be too small.
        """
        everything = np.arange(len(self.observations))
        prior = self._prior(everything, align, strength)
        folds = [("near", self._random_folds()), ("far", self._family_folds())]
        left: dict[str, tuple[Array, Array]] = {}
        for name, held_sets in folds:
            logs, features = np.zeros(len(everything)), np.zeros((len(everything), 0))
            for held in held_sets:
                seen = prior if self.fixed is not None else self._prior(self._without(held), align, strength)
                logs[held], part = self._logs(seen, held)
                features = features if features.shape[1] else np.zeros((len(everything), part.shape[1]))
                features[held] = part
            if held_sets:
                left[name] = (logs, features)
        logs, features = left["near"]
        residuals = np.log(self.values) - logs
        offset = self._offset(residuals, everything)
        noise = 1.0 / self.weights**2
        correction = GaussianProcess.fit(features, residuals - offset, noise)
        own = self._logs(prior, everything)[1]
        sizes = own[:, :SIZE_FEATURES]
        # Features are computed with the final prior, not with the cross-validated ones.
        said = correction.given(own, residuals - offset, noise)
        fit = Fit(prior, said, np.stack([sizes.min(axis=0), sizes.max(axis=0)]), offset)
        near = self._left_out(correction, logs, features, self._singles())
        far = self._left_out(correction, *left["far"], self._family_folds()) if "far" in left else (np.zeros(0),) * 3
        return fit, Validation(*near, *far, network_groups(own))

    def bounds(self) -> PhysicalBounds:
        """Compute the bounds that the measured networks suggest."""
        return PhysicalBounds.of_networks(KernelTable.join(self.tables), self.values)

    def _left_out(
        self, correction: GaussianProcess, logs: Array, features: Array, held_sets: list[Indices]
    ) -> tuple[Array, Array, Array]:
        """Predict each set by a correction fitted to the others: log predictions, log standard deviations and distances."""
        residuals = np.log(self.values) - logs
        noise = 1.0 / self.weights**2
        mean, std, distance = np.zeros(len(logs)), np.zeros(len(logs)), np.zeros(len(logs))
        limit = 3.0 * np.sqrt(correction.signal_var)
        for held in held_sets:
            rest = self._without(held)
            offset = self._offset(residuals, rest)
            seen = correction.given(features[rest], residuals[rest] - offset, noise[rest])
            part, std[held], distance[held] = seen.predict(features[held])
            mean[held] = np.clip(part, -limit, limit) + offset
        return logs + mean, std, distance

    def _offset(self, residuals: Array, chosen: Indices) -> float:
        """Mean log ratio to a fixed prior of another device; 0 for a fitted prior."""
        if self.fixed is None:
            return 0.0
        return float(np.average(residuals[chosen], weights=self.weights[chosen]))

    def _logs(self, prior: KernelPrior, chosen: Indices) -> tuple[Array, Array]:
        """Compute (log of the prior's sum, features) of the chosen networks."""
        table = KernelTable.join([self.tables[index] for index in chosen])
        costs = prior.table_ms(table)
        return np.log(table.sums(costs)), network_features(table, costs)

    def _prior(self, chosen: Indices, align: int, strength: float) -> KernelPrior:
        if self.fixed is not None:
            return self.fixed
        base = self._roofline(chosen, align, strength)
        timed = chosen[self.timed[chosen]]
        if len(timed) < MIN_NETWORKS_TO_LEARN:
            return base
        table = KernelTable.join([self.tables[index] for index in timed])
        times = np.concatenate([self.shares[index] * self.values[index] for index in timed])
        # Weighted by the root of its share: large kernels determine the sum, small ones are many and similar.
        counts = [self.weights[index] * np.sqrt(np.maximum(self.shares[index], MIN_SHARE)) for index in timed]
        return LearnedPrior.fit(base, table, times, np.concatenate(counts))

    def _roofline(self, chosen: Indices, align: int, strength: float) -> Roofline:
        present = [index for index, kind in enumerate(self.kinds) if kind in self._known(chosen)]
        kinds = [self.kinds[index] for index in present]
        terms = self.terms[align][chosen][:, present]
        inside = self.inside[align][chosen][:, present]
        return Roofline.fit(terms, self.values[chosen], self.weights[chosen], inside, kinds, align, strength)

    def _known(self, chosen: Indices) -> set[str]:
        counts = (next(iter(self.terms.values()))[chosen][:, :, -1] > 0).sum(axis=0)
        return {kind for kind, count in zip(self.kinds, counts, strict=True) if count >= MIN_NETWORKS_PER_KIND}

    def _without(self, held: Indices) -> Indices:
        return np.delete(np.arange(len(self.observations)), held)

    def _singles(self) -> list[Indices]:
        return [np.array([index]) for index in range(len(self.observations))]

    def _random_folds(self) -> list[Indices]:
        size = len(self.observations)
        order = np.random.default_rng(0).permutation(size)
        return [fold for fold in np.array_split(order, min(NEAR_FOLDS, size)) if len(fold)]

    def _family_folds(self) -> list[Indices]:
        """Folds of one family each, or of several if there are very many; none for a single family, or if too few networks remain
        to fit a prior."""
        count = int(self.families.max()) + 1 if len(self.families) else 0
        groups = [group for group in np.array_split(np.arange(count), min(FAR_FOLDS, count)) if len(group)]
        if len(groups) < 2:
            return []
        folds = [np.flatnonzero(np.isin(self.families, group)) for group in groups]
        fewest = len(self.families) - max(map(len, folds))
        return folds if self.fixed is not None or fewest >= MIN_NETWORKS_PER_KIND else []


def _weight(item: Observation) -> float:
    return float(1.0 / np.sqrt(1.0 + (item.noise_rel / 0.05) ** 2) * (0.5 if item.noisy else 1.0))
