"""Data types of the latency model: kernels, measurements of networks, estimates. No heavy imports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Protocol


class JobKind(StrEnum):
    """Content of a measured file: a whole network, or a chain of kernels cut out of one."""

    NETWORK = "network"
    KERNELS = "kernels"


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """Launch of one kernel on the device: an operation with everything that the runtime fuses into it.

    Attributes:
        kind: key of the latency model: ``conv``, ``pointwise``, ``depthwise``, ``resize``... or ``op:NAME`` for an operation
            unknown to the graph readers.
        name: name of the anchor node, for display.
        macs: multiply-accumulates of convolutions and matrix products; 0 for others.
        input_bytes, output_bytes: activations read and written, including those of fused operations.
        weight_bytes: constants read, including the bias of a folded batch normalisation.
        in_channels, out_channels, kernel, stride, groups, in_hw, out_hw: shape; zeros if not applicable.
        fused: operations fused into the anchor, in order, without folded batch normalisations.
        nodes: all graph nodes of this kernel, including the anchor and free ones (views).
        precision: ``fp32``, ``fp16`` or ``int8``.
        dilation: dilation of a convolution; 1 along a side of one tap, and for other kernels.
        layer: name of the torch module that runs it, or that needs the layout of a ``relayout``; empty if unknown.
    """

    kind: str
    name: str
    macs: int
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    in_channels: int = 0
    out_channels: int = 0
    kernel: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (0, 0)
    groups: int = 0
    in_hw: tuple[int, int] = (0, 0)
    out_hw: tuple[int, int] = (0, 0)
    fused: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    precision: str = "fp32"
    dilation: tuple[int, int] = (1, 1)
    layer: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """Name for people: its layer, such as ``encoder.blocks.3.0.conv_dw``, else the anchor's name."""
        if not self.layer:
            return self.name
        return f"{self.layer} ({self.name})" if self.kind == "relayout" else self.layer

    @property
    def activation_bytes(self) -> int:
        """Bytes of activations read and written."""
        return self.input_bytes + self.output_bytes

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-ready dict, without ``nodes`` and ``layer``, which refer to the source, and without a dilation of 1."""
        value = asdict(self)
        del value["nodes"], value["layer"]
        if self.dilation == (1, 1):
            del value["dilation"]
        return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> KernelSpec:
        """Inverse of ``to_dict``. Raises KeyError/TypeError on a damaged value."""
        items: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return cls(**items)


@dataclass(frozen=True)
class Measurement:
    """Measurement of one network by the device's protocol.

    Attributes:
        subject: a candidate's architecture id or a file name.
        device: name of the device, e.g. ``local-cpu``.
        latency_ms_p50, latency_ms_p90, latency_ms_p99: percentiles over ``runs`` runs at batch 1.
        noise_rel: relative uncertainty of the median: half the interquartile range of the rounds, each relative to the
            surrounding reference, or the reference's drift, whichever is larger.
        reference_ms: median of the fixed reference network, which runs between the rounds.
        drift_rel: relative change of the reference from the first half of the rounds to the second.
        waited_rel: share of wall time during which other processes held the core; left out of the latencies.
        noisy: the reference still drifted after the repeats that the protocol allows.
        repeats: number of repeats because of drift of the reference.
        precision: ``fp32``...
        fingerprint: facts of the machine; measurements with different fingerprints are never mixed.
        started_at: ISO 8601, UTC.
        samples_ms: raw latencies, at most a few hundred; empty if only the percentiles were stored.
        energy_mj, energy_net_mj: energy of one run, gross and net of idle power; None without a power rail.
        power_mw: mean power over the loop for the energy.
        memory_peak_mb: peak memory of the process or engine.
        end_to_end_ms_p50: latency including copies to and from the device, if ``latency_ms_*`` is the engine alone.
        build_s: seconds of the engine build.
        temp_c: temperature of the processor at the end.
        provenance: ``measured``, or the origin of an imported row.
        family: family of the network (an encoder family, a campaign), for errors on held-out families.
        kernels: the network's kernels, if known.
        kernel_shares: share of the time of each kernel inside the network, if the device has a profiler.
    """

    subject: str
    device: str
    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    runs: int
    noise_rel: float
    reference_ms: float
    fingerprint: Mapping[str, Any]
    started_at: str
    drift_rel: float = 0.0
    waited_rel: float = 0.0
    noisy: bool = False
    repeats: int = 0
    precision: str = "fp32"
    samples_ms: tuple[float, ...] = ()
    energy_mj: float | None = None
    energy_net_mj: float | None = None
    power_mw: float | None = None
    memory_peak_mb: float | None = None
    end_to_end_ms_p50: float | None = None
    build_s: float | None = None
    temp_c: float | None = None
    provenance: str = "measured"
    family: str = ""
    kernels: tuple[KernelSpec, ...] = ()
    kernel_shares: tuple[float, ...] = ()

    @property
    def fingerprint_id(self) -> str:
        """16 hex digits that identify the set-up's facts."""
        return fingerprint_id(self.fingerprint)

    def with_kernels(self, kernels: Sequence[KernelSpec], shares: Sequence[float] = ()) -> Measurement:
        """Copy with its kernels and, if known, their shares of the time."""
        if shares and len(shares) != len(kernels):
            raise ValueError(f"{len(shares)} shares do not belong to {len(kernels)} kernels")
        return replace(self, kernels=tuple(kernels), kernel_shares=tuple(shares))

    def to_dict(self, *, kernel_shares: bool = False) -> dict[str, Any]:
        """Convert to JSON-ready facts without the kernels; their shares of the time only on request."""
        value = {item.name: getattr(self, item.name) for item in fields(self) if not item.name.startswith("kernel")}
        value["fingerprint"] = dict(self.fingerprint)
        value["samples_ms"] = list(self.samples_ms)
        if kernel_shares:
            value["kernel_shares"] = list(self.kernel_shares)
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Measurement:
        """Inverse of ``to_dict``; fields missing in older releases have their defaults."""
        lists = {key: tuple(value.get(key, ())) for key in ("samples_ms", "kernel_shares")}
        return cls(**{**value, **lists})


@dataclass(frozen=True)
class LatencyEstimate:
    """Predicted latency with the interval that contains the measured one with probability ``level``.

    Attributes:
        latency_ms, low_ms, high_ms: estimate and bounds, all > 0, ``low_ms <= latency_ms <= high_ms``.
        coverage: share (by predicted time) of kernels of measured kinds; 1.0 when all are known.
        per_kernel: (label, kind, ms) of every kernel, with sum ``latency_ms``.
        level: nominal probability of the interval.
        unknown_kinds: kinds of kernel without measurements on this device, sorted.
        extrapolation: e-folds outside the measured range of sizes; 0 inside.
        width_cause: what makes most of the interval's width: ``model`` (errors on networks like the measured ones and noise),
            ``distance`` to the measured networks, ``sizes`` outside the measured ones, or ``unknown kernels``; empty if it is
            not known.
        too_far: the network is too far from the calibration for an estimate of use.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    coverage: float
    per_kernel: tuple[tuple[str, str, float], ...] = ()
    level: float = 0.9
    unknown_kinds: tuple[str, ...] = ()
    extrapolation: float = 0.0
    width_cause: str = ""
    too_far: bool = False

    def to_dict(self, *, per_kernel: bool = False) -> dict[str, Any]:
        """Convert to a JSON-ready dict, without the facts on the interval's width; the kernels only on request."""
        value: dict[str, Any] = {
            "latency_ms": self.latency_ms,
            "low_ms": self.low_ms,
            "high_ms": self.high_ms,
            "coverage": self.coverage,
            "level": self.level,
            "unknown_kinds": list(self.unknown_kinds),
            "extrapolation": self.extrapolation,
        }
        if per_kernel:
            value["kernels"] = [{"name": name, "kind": kind, "latency_ms": ms} for name, kind, ms in self.per_kernel]
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> LatencyEstimate:
        """Inverse of ``to_dict``; a missing ``coverage`` is 1.0, and other missing fields have their defaults."""
        kernels = value.get("kernels", ())
        coverage = value.get("coverage")
        return cls(
            latency_ms=value["latency_ms"],
            low_ms=value["low_ms"],
            high_ms=value["high_ms"],
            coverage=1.0 if coverage is None else coverage,
            per_kernel=tuple((item["name"], item["kind"], item["latency_ms"]) for item in kernels),
            level=value.get("level", 0.9),
            unknown_kinds=tuple(value.get("unknown_kinds", ())),
            extrapolation=value.get("extrapolation", 0.0),
        )


class LatencyPredictor(Protocol):
    """A function that ``device.latency_model`` names, such as ``mypkg.latency:predict``.

    ``predict(kernels) -> LatencyEstimate | float`` predicts the latency of one image through a network. A function with a
    parameter ``precision`` is given ``fp32``, ``fp16`` or ``int8`` by that name.

    Args:
        kernels: the network's launches in its final, pruned shape, in order, a `KernelSpec` each.

    Returns:
        An estimate with its interval, or milliseconds above 0, which are an interval without width.
    """

    def __call__(self, kernels: Sequence[KernelSpec], /) -> LatencyEstimate | float:
        """Predict the latency of one image through a network."""


@dataclass(frozen=True)
class TargetEstimate:
    """Prediction of a model's target, with the interval that contains the measured value with probability ``level``.

    Attributes:
        target: ``latency_ms``, ``energy_mj`` or ``memory_peak_mb``: the unit of ``value``, ``low``, ``high``, ``per_kernel``.
        value, low, high: all > 0, ``low <= value <= high``.
        coverage, per_kernel, level, unknown_kinds, extrapolation: as in ``LatencyEstimate``.
        distance: distance to the measured networks; 1 is that of a left-out family in the calibration.
        width_cause, too_far: as in ``LatencyEstimate``.
    """

    target: str
    value: float
    low: float
    high: float
    coverage: float
    per_kernel: tuple[tuple[str, str, float], ...] = ()
    level: float = 0.9
    unknown_kinds: tuple[str, ...] = ()
    extrapolation: float = 0.0
    distance: float = 0.0
    width_cause: str = ""
    too_far: bool = False

    def as_latency(self) -> LatencyEstimate:
        """Convert to a latency.

        Raises:
            ValueError: the target is not a latency.
        """
        if self.target != "latency_ms":
            raise ValueError(f"an estimate of {self.target} is no latency")
        return LatencyEstimate(
            self.value,
            self.low,
            self.high,
            self.coverage,
            self.per_kernel,
            self.level,
            self.unknown_kinds,
            self.extrapolation,
            self.width_cause,
            self.too_far,
        )


def fingerprint_id(fingerprint: Mapping[str, Any]) -> str:
    """Compute 16 hex digits that identify the facts, independent of their order."""
    text = json.dumps(dict(fingerprint), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
