"""Fingerprints in a store: listing, differences, and selection, so that measurements of different machines never mix silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hw_latency_model.types import fingerprint_id
from search_spaces._common.errors import UserError


@dataclass(frozen=True)
class MeasuredGroup:
    """Summary of the measurements of one device, fingerprint and precision.

    Attributes:
        device, fingerprint, precision: common to the measurements.
        measurements, subjects: number of measurements and of distinct networks.
        first_at, last_at: ISO 8601 times of the earliest and the latest.
        provenances: their origins, sorted.
    """

    device: str
    fingerprint: Mapping[str, Any]
    precision: str
    measurements: int
    subjects: int
    first_at: str
    last_at: str
    provenances: tuple[str, ...]

    @property
    def fingerprint_id(self) -> str:
        return fingerprint_id(self.fingerprint)

    def to_dict(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "fingerprint_id": self.fingerprint_id,
            "precision": self.precision,
            "measurements": self.measurements,
            "subjects": self.subjects,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "provenances": list(self.provenances),
            "fingerprint": dict(self.fingerprint),
        }


def describe_difference(fingerprints: Sequence[Mapping[str, Any]]) -> str:
    """Describe the differences of fingerprints: ``tensorrt: '8.2.1' or '8.5.2'; clocks_locked: True or not stated``.

    Distinct values are listed in the order of the fingerprints. Empty if all are equal.
    """
    flat = [_flat(facts) for facts in fingerprints]
    parts = []
    for key in sorted({key for facts in flat for key in facts}):
        values = list(dict.fromkeys(repr(facts[key]) if key in facts else "not stated" for facts in flat))
        if len(values) > 1:
            parts.append(f"{key}: {' or '.join(values)}")
    return "; ".join(parts)


def choose_fingerprint(groups: Sequence[MeasuredGroup], *, wanted: str | None, device: str, store: str) -> str:
    """Select the id of one fingerprint.

    Args:
        groups: groups of the device in the store.
        wanted: beginning of a fingerprint's id; None if there is only one.
        device, store: names for the message.

    Raises:
        UserError: there are none, several without a choice, or none or several ids begin with ``wanted``.
    """
    known = list(dict.fromkeys(group.fingerprint_id for group in groups))
    if not known:
        raise UserError(
            f"the measurement store {store} holds no measurement of {device}; run `paretoseg calibrate` for it first."
        )
    fitting = [key for key in known if wanted is None or key.startswith(wanted)]
    if len(fitting) == 1:
        return fitting[0]
    counts = {key: sum(group.measurements for group in groups if group.fingerprint_id == key) for key in known}
    listed = ", ".join(f"{key} ({counts[key]} measurements)" for key in known)
    if not fitting:
        raise UserError(f"{store} has no fingerprint of {device} that begins with {wanted!r}; it has {listed}.")
    different = describe_difference([group.fingerprint for group in groups if group.fingerprint_id in fitting])
    raise UserError(
        f"the measurement store {store} holds {device} under {len(fitting)} fingerprints, which are never mixed: "
        f"{listed}. They differ in {different}. Choose one by the beginning of its id."
    )


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
