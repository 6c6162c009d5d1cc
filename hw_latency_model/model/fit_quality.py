"""What cross-validation found of a latency model."""

from __future__ import annotations

from dataclasses import dataclass


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
        families: how many families were told apart.
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
