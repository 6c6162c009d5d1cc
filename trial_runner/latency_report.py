"""Latency report of a model whose networks are from a search space: their names, and the next to measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from hw_latency_model.file_names import REPORT_FILE
from search_spaces.describe import architecture_words

if TYPE_CHECKING:
    from hw_latency_model import LatencyModel, Measurement, MeasurementStore
    from hw_latency_model.report.latency_report import LatencyReport, NextMeasurement, Reading
    from search_spaces import SearchSpace

MOST_NAMES = 50_000
POOL = 24
NEXT = 6


def report_calibration(
    model_path: Path,
    store: MeasurementStore,
    say: Callable[[str], None],
    *,
    space: SearchSpace | None = None,
    num_classes: int = 14,
) -> Path:
    """Print the summary of a calibration and write its page beside the model; return the page's path.

    Args:
        space: of the measured networks; names them, and proposes the next ones.
        num_classes: of the measured networks.
    """
    from dashboards.latency_report.html import write_latency_report
    from hw_latency_model import LatencyModel

    model = LatencyModel.load(model_path)
    measurements = store.all(model.device, model.fingerprint, precision=model.precision)
    report = make_report(model, measurements, space=space, num_classes=num_classes)
    say(report.summary)
    page = write_latency_report(model_path.with_name(REPORT_FILE), report)
    say(f"report:   {page.absolute().as_uri()}")
    return page


def make_report(
    model: LatencyModel,
    measurements: Sequence[Measurement],
    *,
    space: SearchSpace | None = None,
    num_classes: int = 14,
    members: Sequence[Reading] = (),
) -> LatencyReport:
    """Return the report, in which networks of a search space are named by their params instead of an id."""
    from hw_latency_model.report.latency_report import build_latency_report
    from search_spaces import get_space

    space = space or get_space("encoder_decoder", {})
    names = architecture_names(space)

    def known(item: Measurement) -> tuple[str, str]:
        return names.get(item.subject.partition("-")[0], (item.family, item.subject))

    return build_latency_report(
        model,
        measurements,
        family_of=lambda item: item.family or known(item)[0],
        name_of=lambda item: known(item)[1],
        suggest=lambda: next_candidates(model, space, num_classes, measurements),
        members=members,
    )


def architecture_names(space: SearchSpace) -> dict[str, tuple[str, str]]:
    """Return (family, description) by architecture id, for every architecture of an enumerable space."""
    from search_spaces.dimensions import Categorical

    axes = {dimension.name: dimension for dimension in space.dimensions}
    architecture = [axes[name] for name in space.architecture_dimensions]
    choices = [axis.choices for axis in architecture if isinstance(axis, Categorical)]
    count = 1
    for values in choices:
        count *= len(values)
    if len(choices) < len(architecture) or count > MOST_NAMES:
        return {}
    default = space.default().params
    names = {}
    for values in product(*choices):
        params = dict(zip(space.architecture_dimensions, values, strict=True))
        candidate = space.candidate({**default, **params})
        names[space.architecture_id(candidate)] = (str(params.get("family", "")), architecture_words(candidate.params))
    return names


def next_candidates(
    model: LatencyModel, space: SearchSpace, num_classes: int, measurements: Sequence[Measurement]
) -> list[NextMeasurement]:
    """Return unmeasured architectures, the most informative for the model first."""
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
