"""Leave-one-out and leave-family-out predictions of every measured network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.types import LatencyEstimate, Measurement

if TYPE_CHECKING:
    from hw_latency_model.model.conformal import Scores
    from hw_latency_model.model.latency_model import LatencyModel

Array = NDArray[np.float64]

_OWN_PRIORS = ("roofline", "learned")
"""Types of prior that are fitted to the device's measurements and must be refitted without a network."""


@dataclass(frozen=True)
class LeftOut:
    """Cross-validated estimates of networks, in order.

    Attributes:
        alone: estimates by models that did not see the network.
        with_family: estimates by models that saw no network of its family; empty for a single family.
    """

    alone: Sequence[LatencyEstimate]
    with_family: Sequence[LatencyEstimate] = ()


LeaveOut = Callable[[Sequence[Sequence[Measurement]]], LeftOut]
"""Function from the measurements of each network to its estimates."""


def left_out(model: LatencyModel, family_of: Callable[[Measurement], str]) -> LeaveOut:
    """Create a function that estimates by models fitted like ``model``; the margin of each interval comes from the other networks.

    The function raises:
        ValueError: a measurement is not of the model's target.
    """

    def estimate(networks: Sequence[Sequence[Measurement]]) -> LeftOut:
        from hw_latency_model.model.fitting import Fitter
        from hw_latency_model.model.observations import observe

        named = [replace(item, family=family_of(item)) for item in chain.from_iterable(networks)]
        observations, _ = observe(named, model.target, model.quality.speed_exponent)
        prior = model.fit_result.prior
        fitter = Fitter(observations, prior=None if prior.prior_type in _OWN_PRIORS else prior)
        _, found = fitter.fit(*fitter.choose())
        scores = found.scores(observations)
        rows = np.array([index for index, item in enumerate(observations) for _ in item.raw])
        near = (found.near_log, found.near_std, found.near_distance)
        alone = _estimates(model, networks, *near, found.group, scores, rows)
        if not len(found.far_log):
            return LeftOut(alone)
        far = (found.far_log, found.far_std, found.far_distance)
        return LeftOut(alone, _estimates(model, networks, *far, found.group, scores, rows))

    return estimate


def _estimates(
    model: LatencyModel,
    networks: Sequence[Sequence[Measurement]],
    logs: Array,
    stds: Array,
    distances: Array,
    groups: NDArray[np.intp],
    scores: Scores,
    rows: NDArray[np.intp],
) -> list[LatencyEstimate]:
    known = {*model.kinds, "view"}
    estimates = []
    for index, items in enumerate(networks):
        kinds = {kernel.kind for kernel in items[0].kernels}
        others = _without(scores, rows == index)
        group = others.of_group(int(groups[index])) or others
        spread = float(np.exp(group.margins(model.level).at(distances[index : index + 1])[0] * stds[index]))
        middle = float(np.exp(logs[index]))
        estimates.append(
            LatencyEstimate(
                latency_ms=middle,
                low_ms=middle / spread,
                high_ms=middle * spread,
                coverage=1.0 if kinds <= known else 0.0,
                level=model.level,
                unknown_kinds=tuple(sorted(kinds - known)),
            )
        )
    return estimates


def _without(scores: Scores, own: NDArray[np.bool_]) -> Scores:
    far = scores.far[~own] if len(scores.far) else scores.far
    far_distance = scores.far_distance[~own] if len(scores.far) else scores.far_distance
    near_group, far_group = (
        groups[~own] if len(groups) == len(own) else groups for groups in (scores.near_group, scores.far_group)
    )
    return replace(
        scores,
        near=scores.near[~own],
        near_distance=scores.near_distance[~own],
        far=far,
        far_distance=far_distance,
        near_group=near_group,
        far_group=far_group,
    )
