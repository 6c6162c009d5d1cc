"""Accuracy of a latency model, formatted for display."""

from __future__ import annotations

from collections.abc import Mapping

_LABELS = {
    "networks": "networks the model was fitted on",
    "median_error_rel": "median error, each network left out in turn",
    "within10": "within 10% of measured, left out in turn",
    "coverage": "intervals that held, left out in turn",
    "noise_rel": "noise of a measurement",
    "reference_ms": "reference network, ms",
    "speed_exponent": "slowdown of a network where the reference network is 10 % slower",
    "reference_drift_rel": "spread of the reference while measuring",
    "families": "families told apart",
    "family_error_rel": "median error, each family left out in turn",
    "family_within10": "within 10% of measured, family left out",
    "model_path": "file",
}
_OF_REFERENCE = ("reference_ms", "speed_exponent", "reference_drift_rel")
_OF_FAMILIES = ("families", "family_error_rel", "family_within10")
_SHARES = (
    "median_error_rel",
    "within10",
    "coverage",
    "noise_rel",
    "reference_drift_rel",
    "family_error_rel",
    "family_within10",
)


def model_facts(quality: Mapping[str, object]) -> dict[str, object]:
    """Format a model's quality by readable names, without values that need a reference network or families it does not have."""
    absent = {name for name, value in quality.items() if value is None}
    absent |= set() if quality.get("reference_ms") else set(_OF_REFERENCE)
    families = quality.get("families", 1)
    absent |= set(_OF_FAMILIES) if isinstance(families, int) and families < 2 else set()
    exponent = quality.get("speed_exponent")
    if isinstance(exponent, int | float):
        quality = {**quality, "speed_exponent": f"{1.1**exponent - 1:.1%}"}
    return {
        _LABELS.get(name, name): f"{value:.1%}" if name in _SHARES and isinstance(value, int | float) else value
        for name, value in quality.items()
        if name not in absent
    }
