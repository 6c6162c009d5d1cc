"""Fit of a device that starts from the prior of another one, the most alike of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.types import Measurement

_CLEARLY_BETTER = 0.95
"""Share of the error of a prior of the device's own that another one must be below."""


def fit_from_others(
    measurements: Sequence[Measurement],
    others: Mapping[str, LatencyModel],
    *,
    device: str,
    fingerprint: Mapping[str, Any],
) -> tuple[LatencyModel, str]:
    """Fit a device with a prior of its own and with that of each other device; the least cross-validated error decides.

    A prior of another device is scaled and corrected by the measurements, so that ten of them are enough where the devices are alike.

    Args:
        measurements: measurements of one device, fingerprint and precision, with their kernels.
        others: models of other devices by name.

    Returns:
        The model, and the name of the device whose prior it has; empty for its own.

    Raises:
        UserError: fewer than five different networks were measured.
    """
    best, source = LatencyModel.fit(measurements, device=device, fingerprint=fingerprint), ""
    allowed = _CLEARLY_BETTER * best.quality.median_error_rel
    for name, other in others.items():
        model = LatencyModel.fit(measurements, device=device, fingerprint=fingerprint, prior=other.fit_result.prior)
        if model.quality.median_error_rel < allowed:
            best, source, allowed = model, name, model.quality.median_error_rel
    return best, source
