"""Selection of the next measurements: unmeasured kinds first, then the largest reduction of uncertainty over all candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.estimate import Network, estimates, predict_log, target_table
from hw_latency_model.model.state import ModelState
from hw_latency_model.types import LatencyEstimate, TargetEstimate

Array = NDArray[np.float64]

POOL = 1500
"""Maximum number of candidates considered, evenly spaced if there are more."""
MIN_SIGNAL_REL = 0.25
"""Minimum signal variance, as a share of the noise variance, far from all measured networks."""


def suggest(
    state: ModelState,
    networks: Sequence[Network],
    budget: float,
    cost: Callable[[LatencyEstimate], float] | None,
) -> list[int]:
    """Choose what to measure next; see ``LatencyModel.suggest_measurements``."""
    pool = (
        np.unique(np.linspace(0, len(networks) - 1, min(POOL, len(networks))).astype(int))
        if networks
        else np.zeros(0, int)
    )
    if not len(pool):
        return []
    tables = [target_table(networks[index], state.target) for index in pool]
    expected = estimates(state, tables)
    prices = np.array([1.0 if cost is None else cost(item.as_latency()) for item in expected])
    if not np.all(prices > 0.0):
        raise ValueError("the cost of a measurement must be above 0")
    picked: list[int] = []
    left = _unknown_first(expected, prices, budget, picked)
    left = _greedy(state, tables, prices, left, picked)
    return [int(pool[index]) for index in picked]


def _unknown_first(estimates: Sequence[TargetEstimate], prices: Array, budget: float, picked: list[int]) -> float:
    """Cover the unknown kinds, most new ones per cost first; append to ``picked``, return the remaining budget."""
    missing = {kind for item in estimates for kind in item.unknown_kinds}
    while missing:
        worth = np.array([len(missing & set(item.unknown_kinds)) for item in estimates]) / prices
        worth[prices > budget] = 0.0
        best = int(np.argmax(worth))
        if worth[best] <= 0.0:
            break
        picked.append(best)
        budget -= prices[best]
        missing -= set(estimates[best].unknown_kinds)
    return budget


def _greedy(state: ModelState, tables: Sequence[KernelTable], prices: Array, budget: float, picked: list[int]) -> float:
    """Greedily reduce the summed posterior variance per cost; append to ``picked``, return the remaining budget."""
    table = KernelTable.join(tables)
    found = predict_log(state.fit_result, table, state.fit_result.prior.table_ms(table))
    correction = state.fit_result.correction
    covariance = correction.posterior(found.features)
    least = MIN_SIGNAL_REL * correction.noise_var
    if correction.signal_var < least:
        spread = np.where(found.features.std(axis=0) > 1e-9, found.features.std(axis=0), 1.0)
        points = (found.features - found.features.mean(axis=0)) / spread
        squares = ((points[:, None, :] - points[None, :, :]) ** 2).mean(axis=-1)
        covariance = covariance + least * np.exp(-0.5 * squares)
    for index in picked:
        covariance = _after(covariance, index, correction.noise_var)
    while True:
        variance = np.diag(covariance)
        worth = (covariance**2).sum(axis=0) / (variance + correction.noise_var) / prices
        worth[prices > budget] = 0.0
        worth[picked] = 0.0
        best = int(np.argmax(worth))
        if worth[best] <= 1e-12:
            return budget
        picked.append(best)
        budget -= prices[best]
        covariance = _after(covariance, best, correction.noise_var)


def _after(covariance: Array, index: int, noise_var: float) -> Array:
    column = covariance[:, index]
    return np.asarray(covariance - np.outer(column, column) / (column[index] + noise_var), dtype=np.float64)
