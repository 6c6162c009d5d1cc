"""A measurement for tests that read only some of its facts."""

from __future__ import annotations

from typing import Any

from hw_latency_model import Measurement


def sample_measurement(p50_ms: float, **facts: Any) -> Measurement:
    """Measurement of a network with this median latency in ms; ``facts`` replace the other fields."""
    fields: dict[str, Any] = {
        "subject": "network",
        "device": "local-cpu",
        "latency_ms_p90": p50_ms * 1.05,
        "latency_ms_p99": p50_ms * 1.1,
        "runs": 60,
        "noise_rel": 0.01,
        "reference_ms": 1.0,
        "fingerprint": {"cpu": "test"},
        "started_at": "2026-01-01T00:00:00+00:00",
    }
    return Measurement(latency_ms_p50=p50_ms, **{**fields, **facts})
