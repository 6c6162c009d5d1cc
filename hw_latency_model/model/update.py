"""Update of a fitted latency model by further measurements, without access to the earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.estimate import predict_log
from hw_latency_model.model.fitting import check_measurements, timestamp
from hw_latency_model.model.network_features import GROUPS, network_groups
from hw_latency_model.model.observations import noise_factor, observe, speed_factor
from hw_latency_model.model.state import ModelState
from hw_latency_model.types import Measurement

State = TypeVar("State", bound=ModelState)


def update_state(state: State, measurements: Sequence[Measurement]) -> State:
    """Condition the state on further measurements; see ``LatencyModel.update``."""
    if not measurements:
        return state
    check_measurements(measurements, state.device, state.fingerprint_id)
    observed = [observe([item], state.target)[0][0] for item in measurements]
    base_ms, exponent = state.quality.reference_ms, state.quality.speed_exponent
    level = [
        observation.raw[0] * speed_factor(item, base_ms, exponent)
        for item, observation in zip(measurements, observed, strict=True)
    ]
    table = KernelTable.join([KernelTable.of(item.kernels) for item in observed])
    costs = state.fit_result.prior.table_ms(table)
    before = predict_log(state.fit_result, table, costs)
    residuals = np.log(level) - np.log(table.sums(costs)) - state.fit_result.offset
    noise = np.array([noise_factor(item) for item in measurements])
    correction = state.fit_result.correction.extended(before.features, residuals, noise)
    sizes = before.features[:, : state.fit_result.size_range.shape[1]]
    bounds = np.vstack([state.fit_result.size_range, sizes])
    size_range = np.stack([bounds.min(axis=0), bounds.max(axis=0)])
    fit = replace(state.fit_result, correction=correction, size_range=size_range)
    scores, margins, groups = state.scores, state.margins, state.group_margins
    if scores is not None:
        raw = np.log([item.raw[0] for item in observed])
        errors = np.abs(raw - before.log_value) / before.spread
        scores = scores.with_near(errors, before.distance, network_groups(before.features))
        margins, groups = scores.margins(state.level), scores.group_margins(state.level, GROUPS)
    quality = replace(state.quality, networks=state.quality.networks + len(observed))
    return replace(
        state,
        fit_result=fit,
        margins=margins,
        scores=scores,
        quality=quality,
        fitted_at=timestamp(),
        calibrated=True,
        group_margins=groups,
    )
