"""Parts of a latency report: frozen dataclasses of plain numbers, convertible to JSON."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """Predicted and measured latency of a network.

    Attributes:
        name, family: name of the network and its family; family is empty if unknown.
        predicted_ms, low_ms, high_ms: by a model that did not see this network.
        measured_ms: median of its measurements, at the device's median speed; None for a member that was not measured.
        raw_ms: median as measured, which the interval refers to; None if it equals ``measured_ms``.
        measurements: number of measurements; noisy: all of them were marked noisy.
        coverage: share of its predicted time in kernels of measured kinds.
        unknown_kinds: the other kinds.
    """

    name: str
    family: str
    predicted_ms: float
    low_ms: float
    high_ms: float
    measured_ms: float | None
    raw_ms: float | None = None
    measurements: int = 1
    noisy: bool = False
    coverage: float = 1.0
    unknown_kinds: tuple[str, ...] = ()

    @property
    def error_rel(self) -> float | None:
        """(predicted - measured) / measured: positive for an overestimate; None without a measurement."""
        return None if self.measured_ms is None else (self.predicted_ms - self.measured_ms) / self.measured_ms

    @property
    def inside(self) -> bool | None:
        """True if the latency as measured lies in the interval; None without a measurement."""
        measured_ms = self.measured_ms if self.raw_ms is None else self.raw_ms
        return None if measured_ms is None else self.low_ms <= measured_ms <= self.high_ms


@dataclass(frozen=True)
class GroupErrors:
    """Errors of a group of networks.

    Attributes:
        name: the family, or ``all``.
        networks: number of measured networks.
        median_error_rel, worst_error_rel: median and maximum of the absolute relative errors.
        bias_rel: median of the signed errors: positive if the model overestimates this group.
        within10: share of absolute errors of at most 10 %.
        inside: number of measured latencies inside their interval.
    """

    name: str
    networks: int
    median_error_rel: float
    worst_error_rel: float
    bias_rel: float
    within10: float
    inside: int


@dataclass(frozen=True)
class CoverageBand:
    """Coverage of the intervals, with its 95 % Wilson bounds.

    Attributes:
        name: ``all``, ``fastest third``...
        networks, inside: number of intervals, and of those that contain the measured latency.
        low, high: Wilson bounds of the share.
        half_width_rel: median of ``high_ms / predicted_ms - 1``.
    """

    name: str
    networks: int
    inside: int
    low: float
    high: float
    half_width_rel: float

    @property
    def share(self) -> float:
        return self.inside / self.networks


@dataclass(frozen=True)
class KindErrors:
    """Predicted against profiled time of all kernels of a kind inside their networks.

    Attributes:
        kind: kind of kernel.
        networks, kernels: number of networks with the kind, and of its kernels in all of them.
        time_share: share of the networks' profiled time, mean over all networks.
        median_error_rel: median over the networks of the absolute error of the kind's time; None if its time is too short.
        bias_rel: median of the signed error.
    """

    kind: str
    networks: int
    kernels: int
    time_share: float
    median_error_rel: float | None
    bias_rel: float | None


@dataclass(frozen=True)
class KernelDisagreement:
    """Kernel shape on which model and profile disagree.

    Attributes:
        kind, shape: kind and shape, as text.
        network: network with the largest effect; occurrences: number of profiled kernels of the shape in all networks.
        predicted_ms, profiled_ms: means over the occurrences.
        effect_rel: predicted minus profiled time, as a share of the latency of ``network``.
    """

    kind: str
    shape: str
    network: str
    occurrences: int
    predicted_ms: float
    profiled_ms: float
    effect_rel: float


@dataclass(frozen=True)
class ReferenceReading:
    """Latency of the reference network during one measurement; ``started_at`` is ISO 8601."""

    started_at: str
    reference_ms: float
    noisy: bool


@dataclass(frozen=True)
class RepeatedNetwork:
    """Network measured more than once, with the relative change from the first to the latest measurement."""

    name: str
    times: int
    first_at: str
    last_at: str
    first_ms: float
    last_ms: float

    @property
    def change_rel(self) -> float:
        return self.last_ms / self.first_ms - 1.0


@dataclass(frozen=True)
class Drift:
    """Drift of the device's speed.

    Attributes:
        references: reference latencies, oldest first.
        reference_ms: their median.
        spread_rel: (90th - 10th percentile) / median.
        trend_rel: relative change of the median from the first to the last third.
        repeated: networks measured again, largest change first.
        median_repeat_rel: their median absolute change; None without any.
    """

    references: tuple[ReferenceReading, ...]
    reference_ms: float
    spread_rel: float
    trend_rel: float
    repeated: tuple[RepeatedNetwork, ...]
    median_repeat_rel: float | None


@dataclass(frozen=True)
class KindCoverage:
    """Kind of kernel with few measurements: in ``networks`` measured networks; ``wanted_by``: number of members with it."""

    kind: str
    networks: int
    wanted_by: int


@dataclass(frozen=True)
class NextMeasurement:
    """Suggested measurement of a network; latencies are predicted, None if not computed."""

    name: str
    why: str
    predicted_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
