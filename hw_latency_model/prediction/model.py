"""The latency model of one device: fit, predict with an interval, update; energy and peak memory alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.prediction.fit_quality import FitQuality as FitQuality
from hw_latency_model.prediction.fitting import Fit, Fitter, Predictions, observe_best
from hw_latency_model.prediction.gaussian_process import GaussianProcess
from hw_latency_model.prediction.intervals import Margins, Scores
from hw_latency_model.prediction.intervals import conformal_quantile as conformal_quantile
from hw_latency_model.prediction.network_features import FEATURES, SIZE_FEATURES, network_features
from hw_latency_model.prediction.observations import Observation, noise_factor, observe
from hw_latency_model.prediction.prior import KernelPrior, table_costs
from hw_latency_model.prediction.targets import kernels_for
from hw_latency_model.types import KernelSpec, LatencyEstimate, Measurement, TargetEstimate, fingerprint_id
from search_spaces.errors import UserError

Array = NDArray[np.float64]

LEVEL = 0.9
MIN_MEASUREMENTS = 5
CHUNK = 1000
"""Networks that are predicted together."""


@dataclass(frozen=True)
class LatencyModel:
    """Predicts latencies on the device whose fingerprint it carries.

    A prior gives each kernel's cost: a typed roofline, and where kernels were timed inside their networks a learned
    factor on it; or one that came in the box. A Gaussian process corrects the network's total. The interval is
    conformal: its margin, in units of the predicted standard deviation, is a quantile of errors on networks left out,
    against single, raw measurements, so the machine's own noise is inside it. The margin grows with the distance from
    what was measured, from that of networks left out alone to that of networks whose whole family was left out.

    Attributes:
        device: name of the device.
        fingerprint: of the machine at calibration.
        margins: conformal quantiles, in standard deviations.
        quality: what cross-validation found.
        fitted_at: ISO 8601, UTC.
        precision: of the networks that were measured.
        target: what is predicted, in the unit of its name: ``latency_ms``, ``energy_mj`` or ``memory_peak_mb``.
        calibrated: measured on the user's own device; False for what comes in the box.
        provenance: where an uncalibrated model's numbers come from; empty for a calibrated one.
        scores: of cross-validation, which ``update`` adds to; None in a model of an older release.
    """

    device: str
    fingerprint: Mapping[str, Any]
    fit_result: Fit
    margins: Margins
    quality: FitQuality
    fitted_at: str
    level: float = LEVEL
    precision: str = "fp32"
    target: str = "latency_ms"
    calibrated: bool = True
    provenance: str = ""
    scores: Scores | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of kernel that were measured."""
        return self.fit_result.prior.kinds

    @property
    def fingerprint_id(self) -> str:
        return fingerprint_id(self.fingerprint)

    @classmethod
    def fit(
        cls,
        measurements: Sequence[Measurement],
        *,
        device: str,
        fingerprint: Mapping[str, Any],
        level: float = LEVEL,
        target: str = "latency_ms",
        prior: KernelPrior | None = None,
    ) -> LatencyModel:
        """Fit on measurements that carry their kernels.

        Args:
            target: what to predict, one of ``targets.TARGETS``.
            prior: start from this one (a boxed prior, another device's) and fit its scale and a correction only; None
                fits a prior to the measurements themselves.

        Raises:
            ValueError: a measurement has no kernels, or is of another device or fingerprint.
            UserError: fewer than five different networks were measured, or one was not measured for this target.
        """
        _check(measurements, device, fingerprint_id(fingerprint))
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
        values = np.log(fitter.values)
        errors = np.abs(np.expm1(validation.near_log - values))
        family_errors = np.abs(np.expm1(validation.far_log - values)) if len(validation.far_log) else errors
        references = np.array([item.reference_ms for item in measurements])
        low, high = np.percentile(references, [10, 90])
        quality = FitQuality(
            networks=len(observations),
            median_error_rel=float(np.median(errors)),
            within10=float(np.mean(errors <= 0.1)),
            coverage=float(np.mean(scores.near <= margins.at(scores.near_distance))),
            noise_rel=float(np.median([item.noise_rel for item in measurements])),
            reference_ms=base_ms,
            speed_exponent=exponent,
            reference_drift_rel=float((high - low) / base_ms) if base_ms else 0.0,
            families=int(fitter.families.max()) + 1,
            family_error_rel=float(np.median(family_errors)),
            family_within10=float(np.mean(family_errors <= 0.1)),
        )
        return cls(
            device,
            dict(fingerprint),
            result,
            margins,
            quality,
            _now(),
            level,
            measurements[0].precision,
            target,
            scores=scores,
        )

    @classmethod
    def from_prior(
        cls,
        prior: KernelPrior,
        *,
        device: str,
        precision: str,
        fingerprint: Mapping[str, Any],
        log_std: float,
        quality: FitQuality,
        provenance: str,
        networks: Sequence[Sequence[KernelSpec]] = (),
        margin: float = 1.645,
        level: float = LEVEL,
        target: str = "latency_ms",
    ) -> LatencyModel:
        """A model out of a prior alone, ``calibrated=False``: wide and honest until the user's own device was measured.

        Args:
            log_std: standard deviation of the prior's log error on whole networks it was not fitted on.
            quality: what was found on them.
            provenance: where the prior's numbers come from, for people.
            networks: kernels of the networks the prior was fitted on; outside their sizes the interval widens.
            margin: half width of the interval in ``log_std``.
        """
        size_range = np.zeros((2, 0))
        if networks:
            table = KernelTable.join([KernelTable.of(kernels) for kernels in networks])
            sizes = network_features(table, table_costs(prior, table))[:, :SIZE_FEATURES]
            size_range = np.stack([sizes.min(axis=0), sizes.max(axis=0)])
        fit = Fit(prior, GaussianProcess.none(FEATURES, log_std), size_range)
        margins = Margins(margin, margin)
        return cls(
            device, dict(fingerprint), fit, margins, quality, _now(), level, precision, target, False, provenance
        )

    def predict(self, kernels: Sequence[KernelSpec] | KernelTable) -> LatencyEstimate:
        """Latency in ms with its interval; always positive, wider far from what was measured.

        Raises:
            ValueError: there is no kernel that takes time, or the model's target is no latency.
        """
        return self.estimate([kernels], per_kernel=True)[0].as_latency()

    def predict_many(
        self, networks: Sequence[Sequence[KernelSpec] | KernelTable], *, per_kernel: bool = False
    ) -> list[LatencyEstimate]:
        """``predict`` for many networks at once: thousands per second, most of all where they are tables already.

        Args:
            networks: kernels of each, or their ``KernelTable.of``.
            per_kernel: fill in the estimates' ``per_kernel``, which takes longer than all else.
        """
        return [item.as_latency() for item in self.estimate(networks, per_kernel=per_kernel)]

    def estimate(
        self, networks: Sequence[Sequence[KernelSpec] | KernelTable], *, per_kernel: bool = False
    ) -> list[TargetEstimate]:
        """The model's target of each network, in its unit, with its interval.

        Raises:
            ValueError: a network has no kernel that costs anything.
        """
        result: list[TargetEstimate] = []
        for start in range(0, len(networks), CHUNK):
            tables = [self._table(item) for item in networks[start : start + CHUNK]]
            result += self._estimates(tables, per_kernel)
        return result

    def update(self, measurements: Sequence[Measurement]) -> LatencyModel:
        """A model that has learnt from further measurements on the same machine, without the earlier ones at hand.

        The prior stays; the correction is conditioned on the new networks exactly as if they had been there from the
        start. They were predicted before they were measured, so their errors also go into the interval. With the store
        at hand, ``fit`` on everything is better still: it teaches the prior, too.

        Raises:
            ValueError: a measurement has no kernels, or is of another device or fingerprint.
        """
        if not measurements:
            return self
        _check(measurements, self.device, self.fingerprint_id)
        observed = [observe([item], self.target)[0][0] for item in measurements]
        level = [
            _at_speed(item, observation, self.quality) for item, observation in zip(measurements, observed, strict=True)
        ]
        table = KernelTable.join([KernelTable.of(item.kernels) for item in observed])
        costs = table_costs(self.fit_result.prior, table)
        before = self.fit_result.predict_log(table, costs)
        residuals = np.log(level) - np.log(table.sums(costs)) - self.fit_result.offset
        noise = np.array([noise_factor(item) for item in measurements])
        correction = self.fit_result.correction.extended(before.features, residuals, noise)
        sizes = before.features[:, : self.fit_result.size_range.shape[1]]
        bounds = np.vstack([self.fit_result.size_range, sizes])
        size_range = np.stack([bounds.min(axis=0), bounds.max(axis=0)])
        fit = replace(self.fit_result, correction=correction, size_range=size_range)
        scores, margins = self.scores, self.margins
        if scores is not None:
            raw = np.log([item.raw[0] for item in observed])
            errors = np.abs(raw - before.log_value) / before.log_std
            scores = scores.with_near(errors, before.distance)
            margins = scores.margins(self.level)
        quality = replace(self.quality, networks=self.quality.networks + len(observed))
        return replace(
            self, fit_result=fit, margins=margins, scores=scores, quality=quality, fitted_at=_now(), calibrated=True
        )

    def suggest_measurements(
        self,
        candidates: Sequence[Sequence[KernelSpec] | KernelTable],
        budget: float,
        *,
        cost: Callable[[LatencyEstimate], float] | None = None,
    ) -> list[int]:
        """Which of the candidates to measure next, the most telling first, as far as the budget goes.

        Kernels of kinds never measured come first, then whatever takes most uncertainty out of all candidates together.

        Args:
            budget: what may be spent, in the unit of ``cost``.
            cost: of measuring a candidate of that estimate, such as seconds of engine build; None: each costs 1.

        Returns:
            Indices into ``candidates``.
        """
        from hw_latency_model.prediction.suggest import suggest

        return suggest(self, [self._table(item) for item in candidates], budget, cost)

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically; every number survives exactly.

        Raises:
            UserError: the file cannot be written.
        """
        from hw_latency_model.prediction.model_file import save_model

        save_model(self, path)

    @classmethod
    def load(cls, path: Path, *, fingerprint: Mapping[str, Any] | None = None) -> LatencyModel:
        """Read a saved model.

        Args:
            path: the JSON file.
            fingerprint: of the machine that it shall speak for; None takes whatever machine it was fitted on.

        Raises:
            UserError: the file is missing, damaged, of another version, or of another machine than asked for.
        """
        from hw_latency_model.prediction.model_file import load_model

        return load_model(path, fingerprint)

    def _table(self, network: Sequence[KernelSpec] | KernelTable) -> KernelTable:
        if isinstance(network, KernelTable) and self.target != "memory_peak_mb":
            return network
        kernels = network.kernels if isinstance(network, KernelTable) else network
        if not kernels:
            raise ValueError("a latency can only be predicted for a network with at least one kernel that takes time")
        return KernelTable.of(kernels_for(kernels, self.target))

    def _estimates(self, tables: Sequence[KernelTable], per_kernel: bool) -> list[TargetEstimate]:
        table = KernelTable.join(tables)
        costs = table_costs(self.fit_result.prior, table)
        totals = table.sums(costs)
        if not np.all(totals > 0.0):
            raise ValueError("a latency can only be predicted for a network with at least one kernel that takes time")
        found = self.fit_result.predict_log(table, costs)
        spread = np.exp(np.minimum(self.margins.at(found.distance) * found.log_std, 20.0))
        values = np.exp(found.log_value)
        parts = (
            self._per_kernel(table, costs * np.repeat(values / totals, [len(item.kinds) for item in tables]))
            if per_kernel
            else [()] * len(tables)
        )
        return self._named(tables, found, values, spread, parts)

    def _named(
        self,
        tables: Sequence[KernelTable],
        found: Predictions,
        values: Array,
        spread: Array,
        parts: Sequence[tuple[tuple[str, str, float], ...]],
    ) -> list[TargetEstimate]:
        known = {*self.kinds, "view"}
        relative = self.margins.relative(found.distance)
        columns = (values, values / spread, values * spread, 1.0 - found.unknown, found.outside, relative)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [
            TargetEstimate(
                self.target,
                value,
                low,
                high,
                coverage=min(1.0, max(0.0, coverage)),
                per_kernel=kernels,
                level=self.level,
                unknown_kinds=tuple(sorted(set(table.kinds) - known)),
                extrapolation=outside,
                distance=distance,
            )
            for table, kernels, (value, low, high, coverage, outside, distance) in zip(tables, parts, rows, strict=True)
        ]

    def _per_kernel(self, table: KernelTable, values: Array) -> list[tuple[tuple[str, str, float], ...]]:
        rows = [(kernel.name, kernel.kind, ms) for kernel, ms in zip(table.kernels, values.tolist(), strict=True)]
        ends = (*table.starts[1:], len(rows))
        return [tuple(rows[start:end]) for start, end in zip(table.starts, ends, strict=True)]


def _check(measurements: Sequence[Measurement], device: str, wanted: str) -> None:
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


def _at_speed(item: Measurement, observation: Observation, quality: FitQuality) -> float:
    """The measured value at the speed that the machine had when the model was fitted."""
    if item.reference_ms <= 0.0 or quality.reference_ms <= 0.0:
        return observation.raw[0]
    return observation.raw[0] * math.pow(quality.reference_ms / item.reference_ms, quality.speed_exponent)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
