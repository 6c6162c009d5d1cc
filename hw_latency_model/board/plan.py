"""Selection of the next measurements within a time budget that engine builds dominate.

On a Nano an engine takes 119 to 5060 s to build (median 789 over 92 published builds) and seconds to time, so time is planned
by build. A build times every tactic of every *distinct* kernel; kernels in the timing cache are nearly free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.board.results import BoardResults, KnownJob
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.types import JobKind, KernelSpec, LatencyEstimate

NETWORK, KERNELS = JobKind.NETWORK, JobKind.KERNELS
PUBLISHED_BUILD_S = 789.0
PUBLISHED_KERNELS = 60
"""Distinct kernels of a network whose build takes the published median: a ResNet-50 has 25, an FPN on a MobileNet 70."""
PUBLISHED_WEIGHT = 2.0
"""Number of builds on this board that weigh as much as the published ones."""
KNOWN_KERNEL_SHARE = 0.05
"""Relative build cost of a kernel in the timing cache."""
QUICK_S_PER_KERNEL = 0.02
"""Seconds per kernel to open the file, for runtimes without engines."""
NETWORK_TIME_SHARE = 0.5
"""Minimum share of the time for whole networks, which show what chains leave out."""
MIN_NETWORKS_TO_STOP = 10
ENGINE_RUNTIMES = frozenset({"tensorrt"})
BESIDES_S = 3.0
"""Assumed seconds of loading and copying per job, before the first measurement."""


@dataclass(frozen=True)
class Suggestion:
    """Candidate for a measurement.

    Attributes:
        key: subject in the store.
        kind: a whole network or a kernel chain.
        kernels: kernels of the graph after fusion by the device's rules.
    """

    key: str
    kind: JobKind
    kernels: tuple[KernelSpec, ...]


class BuildCost:
    """Estimate of engine build times: proportional to the number of distinct kernels, starting from the published median.

    Args:
        builds: (kernels, build_s) of engines built on this device, in order.
        builds_engines: False for runtimes without engines.
    """

    def __init__(self, builds: Iterable[tuple[Sequence[KernelSpec], float]] = (), *, builds_engines: bool) -> None:
        start = PUBLISHED_BUILD_S / PUBLISHED_KERNELS if builds_engines else QUICK_S_PER_KERNEL
        self._cached: set[KernelSpec] = set()
        self._log_sum, self._weight = PUBLISHED_WEIGHT * math.log(start), PUBLISHED_WEIGHT
        for kernels, build_s in builds:
            self.learn(kernels, build_s)

    @property
    def seconds_per_kernel(self) -> float:
        """Build time in seconds of a kernel that is not in the timing cache."""
        return math.exp(self._log_sum / self._weight)

    def seconds(self, kernels: Sequence[KernelSpec]) -> float:
        """Predict the build time of an engine of these kernels, in seconds."""
        return self.seconds_per_kernel * self._units(kernels)

    def learn(self, kernels: Sequence[KernelSpec], build_s: float) -> None:
        """Add one build; its kernels are in the timing cache afterwards. A cached engine (0 s) carries no information."""
        if build_s > 0:
            self._log_sum += math.log(build_s / self._units(kernels))
            self._weight += 1.0
        self._cached.update(map(anonymous, kernels))

    def _units(self, kernels: Sequence[KernelSpec]) -> float:
        different = {anonymous(kernel) for kernel in kernels if kernel.kind != "view"}
        known = len(different & self._cached)
        return max(1.0, len(different) - known + KNOWN_KERNEL_SHARE * known)


def builds_engines(config: DeviceConfig) -> bool:
    """Return True for a device that builds an engine of each network, which dominates the measuring time."""
    return config.device.runtime in ENGINE_RUNTIMES


def job_cost(config: DeviceConfig, jobs: Mapping[str, KnownJob], results: BoardResults) -> tuple[BuildCost, float]:
    """Estimate the build cost, and the seconds per job besides building.

    Args:
        config: the device's configuration.
        jobs: all planned jobs by id.
        results: their results; without any, published build times and the limits of the protocol are used.
    """
    cost = BuildCost(
        ((jobs[job_id].kernels, build_s) for job_id, (_, build_s) in results.seconds.items()),
        builds_engines=builds_engines(config),
    )
    rest = sorted(wall_s - build_s for wall_s, build_s in results.seconds.values())
    if rest:
        return cost, rest[len(rest) // 2]
    settings = {"warmup_s": 1.0, "max_s": 5.0, "energy_s": 5.0, **config.protocol_settings()}
    return cost, sum(float(settings[key]) for key in ("warmup_s", "max_s", "energy_s")) + BESIDES_S


def choose_batch(
    pool: Sequence[Suggestion],
    seconds: Sequence[float],
    budget_s: float,
    *,
    most: int,
    least: int = 1,
    model: LatencyModel | None = None,
    network_s: float = 0.0,
    chain_s: float = 0.0,
) -> list[int]:
    """Choose the next measurements; return indices into ``pool``, the most informative first.

    Without a model the order of the pool is used, which covers the space; with one, its ``suggest_measurements``: the
    largest reduction of uncertainty over the whole pool per second. Chains and networks alternate by time spent.

    Args:
        pool: candidates.
        seconds: cost of each, build included; above 0.
        budget_s: budget of the batch in seconds.
        most: maximum number.
        least: minimum number, regardless of cost; the cheapest first once none fits the budget.
        model: model fitted on the measurements so far.
        network_s, chain_s: seconds spent on each kind so far.
    """
    queues = {kind: _ordered(pool, seconds, kind, model) for kind in (NETWORK, KERNELS)}
    spent = {NETWORK: network_s, KERNELS: chain_s}
    chosen: list[int] = []
    left = budget_s
    while any(queues.values()) and len(chosen) < most:
        networks_next = spent[NETWORK] < NETWORK_TIME_SHARE * sum(spent.values()) or not queues[KERNELS]
        kind = NETWORK if networks_next and queues[NETWORK] else KERNELS if queues[KERNELS] else NETWORK
        fitting = next((index for index in queues[kind] if seconds[index] <= left), None)
        if fitting is None and len(chosen) >= least:
            queues[kind] = []
            continue
        index = min(queues[kind], key=lambda item: seconds[item]) if fitting is None else fitting
        queues[kind].remove(index)
        chosen.append(index)
        spent[kind] += seconds[index]
        left -= seconds[index]
    return chosen


@dataclass(frozen=True)
class Accuracy:
    """Current accuracy of a model.

    Attributes:
        error_rel: leave-one-out median error, relative.
        interval_rel: median half width of the interval over the search space, relative.
        networks: number of networks it was fitted on.
    """

    error_rel: float
    interval_rel: float
    networks: int

    def reached(self, error_rel: float, interval_rel: float) -> bool:
        """Return True if both goals are met by a model of enough networks to judge."""
        return (
            self.networks >= MIN_NETWORKS_TO_STOP and self.error_rel <= error_rel and self.interval_rel <= interval_rel
        )


def accuracy_of(model: LatencyModel, networks: Sequence[Sequence[KernelSpec]]) -> Accuracy:
    """Compute the model's accuracy on ``networks`` of the search space, measured or not; at least one."""
    widths = [_half_width(estimate) for estimate in model.predict_many(networks)]
    return Accuracy(model.quality.median_error_rel, float(np.median(widths)), model.quality.networks)


def anonymous(kernel: KernelSpec) -> KernelSpec:
    """Return the kernel without its name and nodes: equal kernels share an entry of the timing cache."""
    return KernelSpec.from_dict({**kernel.to_dict(), "name": ""})


def _ordered(pool: Sequence[Suggestion], seconds: Sequence[float], kind: str, model: LatencyModel | None) -> list[int]:
    members = [index for index, item in enumerate(pool) if item.kind == kind]
    if model is None or not members:
        return members
    prices = iter([seconds[index] for index in members])  # one call per member, in order
    order = model.suggest_measurements(
        [pool[index].kernels for index in members], math.inf, cost=lambda _: next(prices)
    )
    return [members[index] for index in order]


def _half_width(estimate: LatencyEstimate) -> float:
    return 0.5 * (estimate.high_ms - estimate.low_ms) / estimate.latency_ms
