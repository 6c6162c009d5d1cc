"""Networks of a search space in a latency report: what a measured id stands for, and which to measure next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from search_spaces.describe import architecture_words

if TYPE_CHECKING:
    from hw_latency_model import LatencyModel, Measurement
    from hw_latency_model.report.latency_report import NextMeasurement
    from search_spaces import SearchSpace

MOST_NAMES = 50_000
POOL = 24
NEXT = 6


def architecture_names(space: SearchSpace) -> dict[str, tuple[str, str]]:
    """Architecture id to (family, the network in words), of every architecture of a space that can be listed."""
    from search_spaces.dimensions import Categorical

    axes = {dimension.name: dimension for dimension in space.dimensions}
    shaping = [axes[name] for name in space.architecture_dimensions]
    choices = [axis.choices for axis in shaping if isinstance(axis, Categorical)]
    count = 1
    for values in choices:
        count *= len(values)
    if len(choices) < len(shaping) or count > MOST_NAMES:
        return {}
    usual = space.default().params
    names = {}
    for values in product(*choices):
        params = dict(zip(space.architecture_dimensions, values, strict=True))
        candidate = space.candidate({**usual, **params})
        names[space.architecture_id(candidate)] = (str(params.get("family", "")), architecture_words(candidate.params))
    return names


def next_candidates(
    model: LatencyModel, space: SearchSpace, num_classes: int, measurements: Sequence[Measurement]
) -> list[NextMeasurement]:
    """Architectures not measured yet that would tell the model most, the most telling first."""
    from hw_latency_model.kernels.candidate_kernels import CandidateKernels
    from hw_latency_model.kernels.runtimes import runtime_of
    from hw_latency_model.local.sampling import covering_order
    from hw_latency_model.report.latency_report import NextMeasurement

    measured = {item.subject.partition("-")[0] for item in measurements}
    pool = covering_order(space, POOL + len(measured), seed=1)
    pool = [item for item in pool if space.architecture_id(item) not in measured][:POOL]
    kernels_of = CandidateKernels(space, num_classes, runtime=runtime_of(model.fingerprint))
    networks = [kernels_of(candidate) for candidate in pool]
    chosen = []
    for index in model.suggest_measurements(networks, NEXT):
        estimate = model.predict(networks[index])
        why = f"may take up to {estimate.high_ms / estimate.latency_ms:.2g} times the prediction"
        if estimate.unknown_kinds:
            why += f", never measured: {', '.join(estimate.unknown_kinds)}"
        elif estimate.extrapolation > 0.0:
            why += ", outside the measured sizes"
        chosen.append(
            NextMeasurement(
                architecture_words(pool[index].params), why, estimate.latency_ms, estimate.low_ms, estimate.high_ms
            )
        )
    return chosen
