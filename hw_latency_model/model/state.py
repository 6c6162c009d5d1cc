"""State of a latency model: everything that fitting determines, prediction needs and the file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.model.bounds import PhysicalBounds
from hw_latency_model.model.conformal import Margins, Scores
from hw_latency_model.model.gaussian_process import GaussianProcess
from hw_latency_model.model.prior import KernelPrior
from hw_latency_model.types import fingerprint_id

LEVEL = 0.9


@dataclass(frozen=True)
class Fit:
    """Fitted parts of a model: prior and correction.

    Attributes:
        prior: milliseconds of each kernel.
        correction: of the logarithm of the sum, from features of the whole network.
        size_range: (2, sizes) the measured range of the first features, low and high.
        offset: mean log ratio of this device to the prior.
    """

    prior: KernelPrior
    correction: GaussianProcess
    size_range: NDArray[np.float64]
    offset: float = 0.0


@dataclass(frozen=True)
class FitQuality:
    """Cross-validated accuracy of a model.

    Attributes:
        networks: number of distinct networks measured.
        median_error_rel, within10: of predictions by models that never saw the network.
        coverage: share of measured latencies inside the cross-validated interval; the margin was set on them, so it is
            close to the level by construction.
        noise_rel: median relative noise of the measurements.
        reference_ms: median of the reference network.
        speed_exponent: power of the reference's slowdown by which the networks slow down.
        reference_drift_rel: spread of the reference over the calibration, (90th - 10th percentile) / median.
        families: number of distinct families.
        family_error_rel, family_within10: of predictions by models that never saw the network's family; where there is
            one family, the same as for single networks.
    """

    networks: int
    median_error_rel: float
    within10: float
    coverage: float
    noise_rel: float
    reference_ms: float
    speed_exponent: float
    reference_drift_rel: float
    families: int = 1
    family_error_rel: float = 0.0
    family_within10: float = 0.0


@dataclass(frozen=True)
class ModelState:
    """Fitted state of a model of one device, precision and target.

    Attributes:
        device: name of the device.
        fingerprint: of the machine at calibration.
        fit_result: prior and correction.
        margins: conformal quantiles, in standard deviations.
        quality: cross-validated accuracy.
        fitted_at: ISO 8601, UTC.
        level: nominal probability of the intervals.
        precision: of the measured networks.
        target: predicted quantity, in the unit of its name: ``latency_ms``, ``energy_mj`` or ``memory_peak_mb``.
        calibrated: measured on the user's own device; False for a bundled model.
        provenance: source of an uncalibrated model's numbers; empty for a calibrated one.
        scores: of cross-validation, extended by updates; None in a model of an older release.
        group_margins: margins of groups of networks that are calibrated apart, by name; ``margins`` for all others.
        bounds: physical bounds of any network's latency; None in a model of an older release.
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
    group_margins: Mapping[str, Margins] = field(default_factory=dict)
    bounds: PhysicalBounds | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of kernel that were measured."""
        return self.fit_result.prior.kinds

    @property
    def fingerprint_id(self) -> str:
        """16 hex digits that identify the fingerprint."""
        return fingerprint_id(self.fingerprint)
