"""Predictions of a latency model: from kernels to estimates with intervals, for one network or for thousands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.conformal import Margins
from hw_latency_model.model.network_features import GROUPS, network_features, network_groups
from hw_latency_model.model.prior import KnowsNovelty
from hw_latency_model.model.state import Fit, ModelState
from hw_latency_model.model.targets import kernels_for
from hw_latency_model.types import KernelSpec, TargetEstimate

Array = NDArray[np.float64]
Network = Sequence[KernelSpec] | KernelTable

EXTRAPOLATION_LOG_STD = 0.25
"""Assumed log standard deviation per e-fold outside the measured sizes."""
UNKNOWN_LOG_STD = 1.0
"""Assumed log standard deviation of the time of kernels of unmeasured kinds: a factor of e in both directions."""
TOO_FAR_LOG = math.log(3.0)
"""Half width from which an interval says only that the network must be measured: a factor of 3 in both directions."""
NOT_MEASURED = frozenset({"view", ""})
"""Kinds without cost, which need no data."""
CHUNK = 1000
"""Number of networks per batch of predictions."""

_WIDEST_LOG = 20.0


@dataclass(frozen=True)
class Predictions:
    """Log predictions of m networks, all (m,) but ``features`` (m, 10).

    Attributes:
        features: inputs of the correction.
        log_value, log_std: of the target; the standard deviation is that of the correction, of measured kinds and sizes.
        unknown: share of the prior's cost in kernels of kinds never measured.
        outside: e-folds outside the measured sizes.
        distance: to the nearest measured network.
        novelty: share of the time in kernels unlike all measured ones, by the prior; 0 where it does not tell.
    """

    features: Array
    log_value: Array
    log_std: Array
    unknown: Array
    outside: Array
    distance: Array
    novelty: Array

    @property
    def spread(self) -> Array:
        """Log standard deviation (m,) with the assumed ones for unmeasured sizes and kinds."""
        assumed = (EXTRAPOLATION_LOG_STD * self.outside) ** 2 + (UNKNOWN_LOG_STD * self.unknown) ** 2
        return np.asarray(np.sqrt(self.log_std**2 + assumed), dtype=np.float64)


def predict_log(fit: Fit, table: KernelTable, costs: Array) -> Predictions:
    """Predict every network of the table, given the prior's cost (n,) of its kernels.

    Raises:
        ValueError: a network has no kernel that costs anything.
    """
    totals = table.sums(costs)
    if not totals.min() > 0.0:
        raise ValueError("a latency can only be predicted for a network with at least one kernel that takes time")
    features = network_features(table, costs)
    mean, std, distance = fit.correction.predict(features)
    limit = 3.0 * math.sqrt(fit.correction.signal_var)
    unmeasured = set(table.names).difference(fit.prior.kinds, NOT_MEASURED)
    unknown = (
        table.sums(table.by_name(unmeasured.__contains__, table.kind) * costs) / totals if unmeasured else 0.0 * totals
    )
    sizes = features[:, : fit.size_range.shape[1]]
    outside = np.maximum(fit.size_range[0] - sizes, sizes - fit.size_range[1]).max(axis=1, initial=0.0)
    logs = np.log(totals) + fit.offset + np.minimum(np.maximum(mean, -limit), limit)
    novelty = fit.prior.novelty(table, costs) if isinstance(fit.prior, KnowsNovelty) else np.zeros(len(totals))
    return Predictions(features, logs, std, unknown, outside, distance, novelty)


def target_table(network: Network, target: str) -> KernelTable:
    """The network's kernels, or the parts that add up to the target, as a table.

    Raises:
        ValueError: the network has no kernel.
    """
    if isinstance(network, KernelTable) and target != "memory_peak_mb":
        return network
    kernels = network.kernels if isinstance(network, KernelTable) else network
    if not kernels:
        raise ValueError("a latency can only be predicted for a network with at least one kernel that takes time")
    return KernelTable.of(kernels_for(kernels, target))


def estimates(state: ModelState, networks: Sequence[Network], *, per_kernel: bool = False) -> list[TargetEstimate]:
    """Estimate the model's target for each network, with its interval.

    Raises:
        ValueError: a network has no kernel that costs anything.
    """
    result: list[TargetEstimate] = []
    for start in range(0, len(networks), CHUNK):
        tables = [target_table(item, state.target) for item in networks[start : start + CHUNK]]
        result += _of_tables(state, tables, per_kernel)
    return result


def _of_tables(state: ModelState, tables: Sequence[KernelTable], per_kernel: bool) -> list[TargetEstimate]:
    """One estimate for each table of one network."""
    table = KernelTable.join(tables)
    costs = state.fit_result.prior.table_ms(table)
    found = predict_log(state.fit_result, table, costs)
    values = np.exp(found.log_value)
    distance, margins, widths = interval_parts(state, found)
    half = np.minimum(np.sqrt(sum(part**2 for part in widths.values())), _WIDEST_LOG)
    low, high = values * np.exp(-half), values * np.exp(half)
    if state.bounds is not None and state.target == "latency_ms":
        floor, ceiling = state.bounds.low_high_ms(table)
        low, high = np.maximum(low, np.minimum(floor, values)), np.minimum(high, np.maximum(ceiling, values))
    relative = margins.relative(distance)
    columns = (values, low, high, 1.0 - found.unknown, found.outside, relative)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    causes = [max(widths, key=lambda name: widths[name][index]) for index in range(len(values))]
    far = (half > TOO_FAR_LOG).tolist()
    parts = _per_kernel(tables, costs, values) if per_kernel else [()] * len(tables)
    return [
        TargetEstimate(
            state.target,
            value,
            low,
            high,
            coverage=min(1.0, max(0.0, coverage)),
            per_kernel=kernels,
            level=state.level,
            unknown_kinds=tuple(sorted(set(item.names).difference(state.kinds, NOT_MEASURED))),
            extrapolation=outside,
            distance=distance,
            width_cause=cause,
            too_far=beyond,
        )
        for item, kernels, (value, low, high, coverage, outside, distance), cause, beyond in zip(
            tables, parts, rows, causes, far, strict=True
        )
    ]


def interval_parts(state: ModelState, found: Predictions) -> tuple[Array, Margins, dict[str, Array]]:
    """Split the half widths of predictions by cause, which add in quadrature.

    The conformal margin multiplies the standard deviation that it was calibrated with, and no assumed one.

    Returns:
        The distances (m,) that the margins are given at, the margins of all groups, and half widths (m,) in e-folds by cause:
        ``model`` for networks like the measured ones, ``distance`` for what unlike ones add, ``sizes`` and ``unknown kernels``.
    """
    distance = found.novelty if state.margins.by == "kernels" else found.distance
    margin, nearest = state.margins.at(distance), state.margins.at(np.zeros(len(distance)))
    groups = network_groups(found.features)
    for index, name in enumerate(GROUPS):
        if name in state.group_margins:
            own = groups == index
            margin[own] = state.group_margins[name].at(distance[own])
            nearest[own] = state.group_margins[name].at(np.zeros(int(own.sum())))
    nearest = np.minimum(nearest, margin)
    normal = NormalDist().inv_cdf(0.5 + 0.5 * min(state.level, 0.999))
    return (
        distance,
        state.margins,
        {
            "model": nearest * found.log_std,
            "distance": np.sqrt(margin**2 - nearest**2) * found.log_std,
            "sizes": normal * EXTRAPOLATION_LOG_STD * found.outside,
            "unknown kernels": normal * UNKNOWN_LOG_STD * found.unknown,
        },
    )


def _per_kernel(tables: Sequence[KernelTable], costs: Array, values: Array) -> list[tuple[tuple[str, str, float], ...]]:
    """Each network's kernels with their parts of its value."""
    result, start = [], 0
    for table, value in zip(tables, values.tolist(), strict=True):
        own = costs[start : start + len(table)]
        shares = (own * (value / own.sum())).tolist()
        result.append(
            tuple((kernel.label, kernel.kind, part) for kernel, part in zip(table.kernels, shares, strict=True))
        )
        start += len(table)
    return result
