"""Serialisation of a measurement for a row of the store, and the hash that identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from hw_latency_model.types import KernelSpec, Measurement

_SEPARATE = frozenset({"fingerprint", "kernels", "kernel_shares"})


def facts_text(measurement: Measurement) -> str:
    """Serialise all facts except fingerprint and kernels as JSON. Raises ValueError for NaN or infinity."""
    facts = {name: value for name, value in measurement.to_dict().items() if name not in _SEPARATE}
    return json.dumps(facts, allow_nan=False)


def kernels_text(measurement: Measurement) -> str:
    return json.dumps([kernel.to_dict() for kernel in measurement.kernels], allow_nan=False)


def measurement_of(facts: str, fingerprint: str, kernels: str, kernel_shares: str) -> Measurement:
    """Parse a measurement from its four JSON texts. Raises KeyError, TypeError or ValueError for invalid ones."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(facts).items()}
    measurement = Measurement.from_dict({**values, "fingerprint": json.loads(fingerprint)})
    return measurement.with_kernels(
        [KernelSpec.from_dict(kernel) for kernel in json.loads(kernels)], json.loads(kernel_shares)
    )


def content_hash(measurement: Measurement) -> str:
    """Compute the SHA-256 (hex) of all facts that differ from their default.

    Defaults are left out so that hashes do not change when later versions add fields.
    """
    content = [
        _non_defaults(measurement, _SEPARATE),
        measurement.fingerprint_id,
        [_non_defaults(kernel, frozenset({"nodes"})) for kernel in measurement.kernels],
        measurement.kernel_shares,
    ]
    text = json.dumps(_plain(content), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _non_defaults(value: Measurement | KernelSpec, left_out: frozenset[str]) -> dict[str, Any]:
    facts = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if field.name not in left_out and (field.default is MISSING or item != field.default):
            facts[field.name] = item
    return facts


def _plain(value: Any) -> Any:
    """Normalise values: 2 and 2.0 are equal, a list and a tuple are equal."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
