"""The parts of a latency report: plain numbers, in frozen dataclasses that turn into JSON."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """One network, predicted and measured.

    Attributes:
        name, family: what it is called, and which networks it belongs to; family is empty where not known.
        predicted_ms, low_ms, high_ms: by a model that did not see this network.
        measured_ms: median of its measurements, at the device's usual speed; None for a front member that was not measured.
        raw_ms: the same as it was measured, which is what the interval is for; None where there is nothing else.
        measurements: how often it was measured; noisy: each time marked so.
        coverage: share of its predicted time in kernels of kinds that were measured.
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
        """(predicted - measured) / measured: positive when the prediction was too slow; None where not measured."""
        return None if self.measured_ms is None else (self.predicted_ms - self.measured_ms) / self.measured_ms

    @property
    def inside(self) -> bool | None:
        """Whether the latency as measured lies in the interval; None where not measured."""
        measured_ms = self.measured_ms if self.raw_ms is None else self.raw_ms
        return None if measured_ms is None else self.low_ms <= measured_ms <= self.high_ms


@dataclass(frozen=True)
class GroupErrors:
    """Errors of a group of networks.

    Attributes:
        name: the family, or ``all``.
        networks: how many were measured.
        median_error_rel, worst_error_rel: of the absolute relative errors.
        bias_rel: median of the signed ones: positive where the model takes this group for slower than it is.
        within10: share of absolute errors of at most 10 %.
        inside: how many measured latencies lie in their interval.
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
    """How many intervals held, with the 95 % Wilson bounds of that share.

    Attributes:
        name: ``all``, ``fastest third``...
        networks, inside: intervals, and those that held the measured latency.
        low, high: bounds of the share, for so few networks.
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
        kind: of kernel.
        networks, kernels: that have it, and how many in all of them.
        time_share: of the networks' profiled time, mean over all networks.
        median_error_rel: over the networks, of the kind's time; None where too little of it to say.
        bias_rel: the same, signed.
    """

    kind: str
    networks: int
    kernels: int
    time_share: float
    median_error_rel: float | None
    bias_rel: float | None


@dataclass(frozen=True)
class KernelDisagreement:
    """A shape of kernel of which model and profile say different things.

    Attributes:
        kind, shape: what it is, in words.
        network: where it matters most; occurrences: how often the shape was profiled in all networks.
        predicted_ms, profiled_ms: means over the occurrences.
        effect_rel: predicted less profiled time, as a share of the latency of ``network``.
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
    """The fixed reference network at one measurement; ``started_at`` is ISO 8601."""

    started_at: str
    reference_ms: float
    noisy: bool


@dataclass(frozen=True)
class RepeatedNetwork:
    """A network that was measured more than once: change of the latest against the first, relative."""

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
    """How steady the device was.

    Attributes:
        references: oldest first.
        reference_ms: their median.
        spread_rel: (90th - 10th percentile) / median.
        trend_rel: median of the last third against that of the first.
        repeated: networks measured again, the one that changed most first.
        median_repeat_rel: median absolute change of those; None where there are none.
    """

    references: tuple[ReferenceReading, ...]
    reference_ms: float
    spread_rel: float
    trend_rel: float
    repeated: tuple[RepeatedNetwork, ...]
    median_repeat_rel: float | None


@dataclass(frozen=True)
class KindCoverage:
    """A kind of kernel that the model knows little of: ``networks`` measured with it; ``wanted_by`` members have it."""

    kind: str
    networks: int
    wanted_by: int


@dataclass(frozen=True)
class NextMeasurement:
    """A network that should be measured next; latencies are predicted, None where not asked for."""

    name: str
    why: str
    predicted_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
