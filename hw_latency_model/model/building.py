"""How a latency model comes to be: fitted to measurements, out of a prior alone, or updated by further measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.conformal import Margins
from hw_latency_model.model.fit import Fit
from hw_latency_model.model.fit_quality import FitQuality
from hw_latency_model.model.fitting import Fitter, Validation, observe_best
from hw_latency_model.model.gaussian_process import GaussianProcess
from hw_latency_model.model.latency_model import MIN_MEASUREMENTS, LatencyModel
from hw_latency_model.model.network_features import FEATURES, SIZE_FEATURES, network_features
from hw_latency_model.model.observations import Observation, noise_factor, observe
from hw_latency_model.model.prior import KernelPrior
from hw_latency_model.types import KernelSpec, Measurement, fingerprint_id
from search_spaces._common.errors import UserError


def fitted(
    measurements: Sequence[Measurement],
    *,
    device: str,
    fingerprint: Mapping[str, Any],
    level: float,
    target: str,
    prior: KernelPrior | None,
) -> LatencyModel:
    """See ``LatencyModel.fit``."""
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
    coverage = float(np.mean(scores.near <= margins.at(scores.near_distance)))
    return LatencyModel(
        device=device,
        fingerprint=dict(fingerprint),
        fit_result=result,
        margins=margins,
        quality=_quality(fitter, validation, measurements, coverage, base_ms, exponent),
        fitted_at=_now(),
        level=level,
        precision=measurements[0].precision,
        target=target,
        scores=scores,
    )


def out_of_prior(
    prior: KernelPrior,
    *,
    device: str,
    precision: str,
    fingerprint: Mapping[str, Any],
    log_std: float,
    quality: FitQuality,
    provenance: str,
    networks: Sequence[Sequence[KernelSpec]],
    margin: float,
    level: float,
    target: str,
) -> LatencyModel:
    """See ``LatencyModel.from_prior``."""
    size_range = np.zeros((2, 0))
    if networks:
        table = KernelTable.join([KernelTable.of(kernels) for kernels in networks])
        sizes = network_features(table, prior.table_ms(table))[:, :SIZE_FEATURES]
        size_range = np.stack([sizes.min(axis=0), sizes.max(axis=0)])
    return LatencyModel(
        device=device,
        fingerprint=dict(fingerprint),
        fit_result=Fit(prior, GaussianProcess.none(FEATURES, log_std), size_range),
        margins=Margins(margin, margin),
        quality=quality,
        fitted_at=_now(),
        level=level,
        precision=precision,
        target=target,
        calibrated=False,
        provenance=provenance,
    )


def updated(model: LatencyModel, measurements: Sequence[Measurement]) -> LatencyModel:
    """See ``LatencyModel.update``."""
    if not measurements:
        return model
    _check(measurements, model.device, model.fingerprint_id)
    observed = [observe([item], model.target)[0][0] for item in measurements]
    level = [
        _at_speed(item, observation, model.quality) for item, observation in zip(measurements, observed, strict=True)
    ]
    table = KernelTable.join([KernelTable.of(item.kernels) for item in observed])
    costs = model.fit_result.prior.table_ms(table)
    before = model.fit_result.predict_log(table, costs)
    residuals = np.log(level) - np.log(table.sums(costs)) - model.fit_result.offset
    noise = np.array([noise_factor(item) for item in measurements])
    correction = model.fit_result.correction.extended(before.features, residuals, noise)
    sizes = before.features[:, : model.fit_result.size_range.shape[1]]
    bounds = np.vstack([model.fit_result.size_range, sizes])
    size_range = np.stack([bounds.min(axis=0), bounds.max(axis=0)])
    fit = replace(model.fit_result, correction=correction, size_range=size_range)
    scores, margins = model.scores, model.margins
    if scores is not None:
        raw = np.log([item.raw[0] for item in observed])
        errors = np.abs(raw - before.log_value) / before.log_std
        scores = scores.with_near(errors, before.distance)
        margins = scores.margins(model.level)
    quality = replace(model.quality, networks=model.quality.networks + len(observed))
    return replace(
        model, fit_result=fit, margins=margins, scores=scores, quality=quality, fitted_at=_now(), calibrated=True
    )


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


def _at_speed(item: Measurement, observation: Observation, quality: FitQuality) -> float:
    """The measured value at the speed that the machine had when the model was fitted."""
    if item.reference_ms <= 0.0 or quality.reference_ms <= 0.0:
        return observation.raw[0]
    return observation.raw[0] * math.pow(quality.reference_ms / item.reference_ms, quality.speed_exponent)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
