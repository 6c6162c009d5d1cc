"""Simpler latency models as baselines: each is fitted on some networks and predicts others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

from hw_latency_model.kernels.table import KernelTable, context_columns
from hw_latency_model.model.network_features import network_features
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]
Networks = Sequence[Sequence[KernelSpec]]
Method = Callable[[Networks, Array, Networks], Array]
"""(networks measured, their ms, networks wanted) to ms."""


def macs_line(known: Networks, ms: Array, wanted: Networks) -> Array:
    """A straight line through MACs, least squares of relative errors, never below the fastest network measured."""
    design = np.stack([_macs(known), np.ones(len(ms))], axis=1) / ms[:, None]
    slope, start = np.linalg.lstsq(design, np.ones(len(ms)), rcond=None)[0]
    return np.asarray(np.maximum(slope * _macs(wanted) + start, ms.min()))


def node_roofline(known: Networks, ms: Array, wanted: Networks) -> Array:
    """Per kernel the larger of its arithmetic and its traffic, and a constant; the three constants are fitted."""
    tables = [_node_terms(item) for item in known]
    joined = np.concatenate(tables)
    starts = np.cumsum([0, *(len(item) for item in tables[:-1])])

    def logs(parameters: Array) -> Array:
        compute, traffic, launch = np.exp(parameters)
        cost = np.maximum(compute * joined[:, 0], traffic * joined[:, 1]) + launch * joined[:, 2]
        return np.log(np.add.reduceat(cost, starts))

    target = np.log(ms)
    totals = np.array([item.sum(axis=0) for item in tables])
    start = np.log(np.array([0.5, 0.5, 0.2]) * np.median(ms[:, None] / np.maximum(totals, 1e-9), axis=0))
    best = minimize(lambda p: float(np.abs(logs(p) - target).mean()), start, method="Nelder-Mead").x
    compute, traffic, launch = np.exp(best)
    return np.array(
        [
            (np.maximum(compute * item[:, 0], traffic * item[:, 1]) + launch * item[:, 2]).sum()
            for item in map(_node_terms, wanted)
        ]
    )


def network_boosting(known: Networks, ms: Array, wanted: Networks) -> Array:
    """Gradient boosting on whole-network features."""
    kinds = sorted({kernel.kind for item in known for kernel in item})
    model = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.06, min_samples_leaf=5)
    model.fit(_network_rows(known, kinds), np.log(ms))
    return np.asarray(np.exp(model.predict(_network_rows(wanted, kinds))))


def isolated_forests(isolated: Sequence[tuple[KernelSpec, float]]) -> Method:
    """nn-Meter's way: one forest per kind on kernels timed alone; a network is the sum of its kernels."""

    def predict(known: Networks, ms: Array, wanted: Networks) -> Array:
        forests: dict[str, RandomForestRegressor] = {}
        means: dict[str, float] = {}
        for kind in {kernel.kind for kernel, _ in isolated}:
            rows = [(kernel, value) for kernel, value in isolated if kernel.kind == kind]
            forest = RandomForestRegressor(50, min_samples_leaf=2, random_state=0)
            values = np.array([value for _, value in rows])
            forest.fit(_isolated_rows([kernel for kernel, _ in rows]), np.log(values))
            forests[kind], means[kind] = forest, float(np.median(values))
        kernels = [kernel for item in wanted for kernel in item]
        cost = np.zeros(len(kernels))
        for kind, forest in forests.items():
            index = [place for place, kernel in enumerate(kernels) if kernel.kind == kind]
            if index:
                cost[index] = np.exp(forest.predict(_isolated_rows([kernels[place] for place in index])))
        starts = np.cumsum([0, *(len(item) for item in wanted[:-1])])
        return np.asarray(np.add.reduceat(cost, starts))

    return predict


def methods(isolated: Sequence[tuple[KernelSpec, float]]) -> Mapping[str, Method]:
    """Samplers and baselines by name, in the order of the table."""
    found: dict[str, Method] = {
        "MACs, linear": macs_line,
        "roofline per node": node_roofline,
        "whole-network boosting": network_boosting,
    }
    if isolated:
        found["kernels alone, summed"] = isolated_forests(isolated)
    return found


def _macs(networks: Networks) -> Array:
    return np.array([sum(kernel.macs for kernel in item) for item in networks], dtype=np.float64)


def _node_terms(kernels: Sequence[KernelSpec]) -> Array:
    rows = [(k.macs / 1e6, (k.activation_bytes + k.weight_bytes) / 1e6, k.kind != "view") for k in kernels]
    return np.array(rows, dtype=np.float64)


def _network_rows(networks: Networks, kinds: Sequence[str]) -> Array:
    table = KernelTable.join([KernelTable.of(item) for item in networks])
    counts = [[sum(kernel.kind == kind for kernel in item) for kind in kinds] for item in networks]
    moved = table.facts[:, 1:4].sum(axis=1) / 1e6
    return np.column_stack([network_features(table, moved), np.array(counts)])


def _isolated_rows(kernels: Sequence[KernelSpec]) -> Array:
    return context_columns(KernelTable.join([KernelTable.of([kernel]) for kernel in kernels]))
