"""The latency model of one device: fit, predict with an interval, save, load."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hw_latency_model.fitting import Fit, Fitter, observe_best
from hw_latency_model.gaussian_process import GaussianProcess
from hw_latency_model.roofline import Roofline
from hw_latency_model.types import KernelSpec, LatencyEstimate, Measurement, fingerprint_id
from search_spaces.errors import UserError
from search_spaces.files import write_json

FORMAT = "paretoseg latency model"
VERSION = 1
LEVEL = 0.9
MIN_MEASUREMENTS = 5


@dataclass(frozen=True)
class FitQuality:
    """What leaving each network out in turn says of the model.

    Attributes:
        networks: how many distinct networks were measured.
        median_error_rel, within10: of predictions by models that never saw the network.
        coverage: share of measured latencies inside the interval so predicted; the margin was set on them, so it
            is close to the level by construction.
        noise_rel: median relative noise of the measurements.
        reference_ms: median of the reference network.
        speed_exponent: by which power of the reference's slowdown the networks slowed down.
        reference_drift_rel: spread of the reference over the calibration, (90th - 10th percentile) / median.
    """

    networks: int
    median_error_rel: float
    within10: float
    coverage: float
    noise_rel: float
    reference_ms: float
    speed_exponent: float
    reference_drift_rel: float


@dataclass(frozen=True)
class LatencyModel:
    """Predicts latencies on the device whose fingerprint it carries.

    A typed roofline gives each kernel's cost, a Gaussian process corrects the network's total, and the interval is
    conformal: its margin, in units of the predicted standard deviation, is the quantile of leave-one-out errors
    against single, raw measurements, so the machine's own noise is inside it.

    Attributes:
        device: name of the device.
        fingerprint: of the machine at calibration.
        margin: conformal quantile, in standard deviations.
        quality: what cross-validation found.
        fitted_at: ISO 8601, UTC.
        precision: of the networks that were measured.
    """

    device: str
    fingerprint: Mapping[str, Any]
    fit_result: Fit
    margin: float
    quality: FitQuality
    fitted_at: str
    level: float = LEVEL
    precision: str = "fp32"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of kernel that were measured."""
        return self.fit_result.prior.kinds

    @property
    def fingerprint_id(self) -> str:
        return fingerprint_id(self.fingerprint)

    @classmethod
    def fit(
        cls, measurements: Sequence[Measurement], *, device: str, fingerprint: Mapping[str, Any], level: float = LEVEL
    ) -> LatencyModel:
        """Fit on measurements that carry their kernels.

        Raises:
            ValueError: a measurement has no kernels, or is of another device or fingerprint.
            UserError: fewer than five different networks were measured.
        """
        wanted = fingerprint_id(fingerprint)
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
        observations, base_ms, exponent = observe_best(measurements) if measurements else ([], 0.0, 1.0)
        if len(observations) < MIN_MEASUREMENTS:
            raise UserError(
                f"a latency model needs at least {MIN_MEASUREMENTS} networks, {len(observations)} were measured; "
                f"run `paretoseg calibrate --device {device}` again with more time."
            )
        fitter = Fitter(observations)
        align, strength = fitter.choose()
        logs, stds = fitter.leave_one_out(align, strength)
        raw = [(index, math.log(ms)) for index, item in enumerate(observations) for ms in item.raw_ms]
        scores = np.array([abs(value - logs[index]) / stds[index] for index, value in raw])
        margin = conformal_quantile(scores, level)
        errors = np.abs(np.expm1(logs - np.log(fitter.latency_ms)))
        references = np.array([item.reference_ms for item in measurements])
        low, high = np.percentile(references, [10, 90])
        quality = FitQuality(
            networks=len(observations),
            median_error_rel=float(np.median(errors)),
            within10=float(np.mean(errors <= 0.1)),
            coverage=float(np.mean(scores <= margin)),
            noise_rel=float(np.median([item.noise_rel for item in measurements])),
            reference_ms=base_ms,
            speed_exponent=exponent,
            reference_drift_rel=float((high - low) / base_ms),
        )
        result = fitter.fit(np.arange(len(observations)), align, strength)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(device, dict(fingerprint), result, margin, quality, now, level, measurements[0].precision)

    def predict(self, kernels: Sequence[KernelSpec]) -> LatencyEstimate:
        """Latency in ms with its interval; always positive, wider far from what was measured.

        Raises:
            ValueError: there is no kernel that takes time.
        """
        cost = self.fit_result.prior.kernel_ms(kernels)
        total = float(cost.sum())
        if not total > 0.0:
            raise ValueError("a latency can only be predicted for a network with at least one kernel that takes time")
        log_ms, log_std, unknown, outside = self.fit_result.predict_log(kernels, cost)
        latency_ms = math.exp(log_ms)
        spread = math.exp(min(self.margin * log_std, 20.0))
        scale = latency_ms / total
        known = {*self.kinds, "view"}
        return LatencyEstimate(
            latency_ms=latency_ms,
            low_ms=latency_ms / spread,
            high_ms=latency_ms * spread,
            coverage=min(1.0, max(0.0, 1.0 - unknown)),
            per_kernel=tuple(
                (kernel.name, kernel.kind, ms * scale) for kernel, ms in zip(kernels, cost.tolist(), strict=True)
            ),
            level=self.level,
            unknown_kinds=tuple(sorted({kernel.kind for kernel in kernels} - known)),
            extrapolation=outside,
        )

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically; every number survives exactly.

        Raises:
            UserError: the file cannot be written.
        """
        quality = {name: getattr(self.quality, name) for name in FitQuality.__dataclass_fields__}
        write_json(
            path,
            {
                "format": FORMAT,
                "version": VERSION,
                "device": self.device,
                "fingerprint": dict(self.fingerprint),
                "fitted_at": self.fitted_at,
                "level": self.level,
                "precision": self.precision,
                "margin": self.margin,
                "quality": quality,
                "prior": self.fit_result.prior.to_dict(),
                "correction": self.fit_result.correction.to_dict(),
                "size_range": self.fit_result.size_range.tolist(),
            },
        )

    @classmethod
    def load(cls, path: Path, *, fingerprint: Mapping[str, Any] | None = None) -> LatencyModel:
        """Read a saved model.

        Args:
            path: the JSON file.
            fingerprint: of the machine that it shall speak for; None takes whatever machine it was fitted on.

        Raises:
            UserError: the file is missing, damaged, of another version, or of another machine than asked for.
        """
        try:
            value = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise UserError(
                f"there is no latency model at {path}; run `paretoseg calibrate --device local-cpu` to measure this "
                "machine, or give the device's name."
            ) from error
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise _damaged(path, str(error)) from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise _damaged(path, "it is not a latency model")
        if value.get("version") != VERSION:
            raise UserError(
                f"the latency model {path} has version {value.get('version')}, this paretoseg reads {VERSION}; "
                f"run `paretoseg calibrate --device {value.get('device')}` again."
            )
        try:
            model = _from_json(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, f"{type(error).__name__}: {error}") from error
        if fingerprint is not None and fingerprint_id(fingerprint) != model.fingerprint_id:
            difference = _difference(model.fingerprint, fingerprint)
            raise UserError(
                f"the latency model {path} was fitted on another machine or set-up ({difference}); "
                f"run `paretoseg calibrate --device {model.device}` on this one."
            )
        return model


def conformal_quantile(scores: np.ndarray[Any, np.dtype[np.float64]], level: float) -> float:
    """The (n + 1)-corrected quantile of the scores; with too few for the level, their maximum, raised by 1 / n."""
    rank = math.ceil((len(scores) + 1) * level)
    ordered = np.sort(scores)
    if rank <= len(scores):
        return float(ordered[rank - 1])
    return float(ordered[-1] * (1.0 + 1.0 / len(scores)))


def _from_json(value: Mapping[str, Any]) -> LatencyModel:
    quality = FitQuality(**value["quality"])
    fit = Fit(
        Roofline.from_dict(value["prior"]),
        GaussianProcess.from_dict(value["correction"]),
        np.array(value["size_range"], dtype=np.float64),
    )
    return LatencyModel(
        device=str(value["device"]),
        fingerprint=dict(value["fingerprint"]),
        fit_result=fit,
        margin=float(value["margin"]),
        quality=quality,
        fitted_at=str(value["fitted_at"]),
        level=float(value["level"]),
        precision=str(value["precision"]),
    )


def _damaged(path: Path, cause: str) -> UserError:
    return UserError(
        f"the latency model {path} is damaged ({cause}); delete it and run `paretoseg calibrate` for its device again."
    )


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    keys = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    return ", ".join(f"{key}: {ours.get(key)!r} there, {theirs.get(key)!r} here" for key in keys)
