"""From kernels to estimates: what a latency model answers, for one network or for thousands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.fit import NOT_MEASURED
from hw_latency_model.types import TargetEstimate

if TYPE_CHECKING:
    from hw_latency_model.model.latency_model import LatencyModel

Array = NDArray[np.float64]
_WIDEST_LOG = 20.0


def estimates(model: LatencyModel, tables: Sequence[KernelTable], per_kernel: bool) -> list[TargetEstimate]:
    """One for each table of one network; see ``LatencyModel.estimate``."""
    table = KernelTable.join(tables)
    costs = model.fit_result.prior.table_ms(table)
    found = model.fit_result.predict_log(table, costs)
    values = np.exp(found.log_value)
    spread = np.exp(np.minimum(model.margins.at(found.distance) * found.log_std, _WIDEST_LOG))
    relative = model.margins.relative(found.distance)
    columns = (values, values / spread, values * spread, 1.0 - found.unknown, found.outside, relative)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    parts = _per_kernel(tables, costs, values) if per_kernel else [()] * len(tables)
    return [
        TargetEstimate(
            model.target,
            value,
            low,
            high,
            coverage=min(1.0, max(0.0, coverage)),
            per_kernel=kernels,
            level=model.level,
            unknown_kinds=tuple(sorted(set(item.names).difference(model.kinds, NOT_MEASURED))),
            extrapolation=outside,
            distance=distance,
        )
        for item, kernels, (value, low, high, coverage, outside, distance) in zip(tables, parts, rows, strict=True)
    ]


def _per_kernel(tables: Sequence[KernelTable], costs: Array, values: Array) -> list[tuple[tuple[str, str, float], ...]]:
    """Each network's kernels with their parts of its value."""
    result, start = [], 0
    for table, value in zip(tables, values.tolist(), strict=True):
        own = costs[start : start + len(table)]
        shares = (own * (value / own.sum())).tolist()
        result.append(
            tuple((kernel.name, kernel.kind, part) for kernel, part in zip(table.kernels, shares, strict=True))
        )
        start += len(table)
    return result
