"""Latency report as data: parity, errors, coverage, worst kernels, drift, and suggested measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hw_latency_model.report.drift import drift_of
from hw_latency_model.report.kernels import kernel_errors
from hw_latency_model.report.left_out import LeaveOut, LeftOut, left_out
from hw_latency_model.report.networks import (
    LEAST_NETWORKS,
    by_network,
    coverage_bands,
    errors_by_family,
    group_errors,
    median_speed,
    readings,
)
from hw_latency_model.report.parts import (
    CoverageBand,
    Drift,
    GroupErrors,
    KernelDisagreement,
    KindCoverage,
    KindErrors,
    NextMeasurement,
    Reading,
)
from hw_latency_model.types import Measurement

if TYPE_CHECKING:
    from hw_latency_model.model.latency_model import LatencyModel

__all__ = ["LatencyReport", "NextMeasurement", "Reading", "build_latency_report"]

_FEW_NETWORKS = 3
_MANY_NETWORKS = 30
_LARGE_ERROR_REL = 0.1
_LARGE_DRIFT_REL = 0.05
_MANY_NOISY_REL = 0.2
_ROWS_IN_SUMMARY = 3


_STORED_KEYS = {
    "held_out_family": "strangers",
    "held_out_family_errors": "stranger_errors",
    "held_out_families": "stranger_families",
    "undersampled_kinds": "little_known",
}


@dataclass(frozen=True)
class LatencyReport:
    """Report on a latency model, for the terminal, for scripts and for the HTML page.

    Attributes:
        device, precision, fingerprint, fingerprint_id: scope of the model.
        calibrated: measured on that device; False for a bundled model, whose numbers come from ``provenance``.
        fitted_at: ISO 8601, UTC.
        level: nominal probability of the intervals.
        quality: accuracy stored with the model, as plain values.
        measurements: number of measurements; noisy: of which noisy; noise_rel: their median noise, None without any.
        without_kernels: number of measurements that cannot be predicted because their kernels were not stored.
        checked: origin of the predictions in ``parity``, in words.
        parity: networks, fastest first.
        errors: errors of all of them; None without comparisons.
        families: errors by family, worst first.
        held_out_family: the networks, predicted by models that saw no network of their family; empty for a single family.
        held_out_family_errors, held_out_families: as ``errors`` and ``families``, for ``held_out_family``.
        kinds: errors of kernels inside networks by kind; worst_kernels: shapes with the largest errors.
        coverage: coverage of the intervals, overall and by thirds of latency.
        drift: drift of the device; None without measurements.
        undersampled_kinds: kinds of kernel with few measurements or none.
        members: networks to show, such as the members of a front.
        next_measurements: suggested measurements, best first.
        advice: recommendations, in sentences.
    """

    device: str
    precision: str
    fingerprint: Mapping[str, Any]
    fingerprint_id: str
    calibrated: bool
    provenance: str
    fitted_at: str
    level: float
    quality: Mapping[str, Any]
    measurements: int
    noisy: int
    noise_rel: float | None
    without_kernels: int
    checked: str
    parity: tuple[Reading, ...]
    errors: GroupErrors | None
    families: tuple[GroupErrors, ...]
    held_out_family: tuple[Reading, ...]
    held_out_family_errors: GroupErrors | None
    held_out_families: tuple[GroupErrors, ...]
    kinds: tuple[KindErrors, ...]
    worst_kernels: tuple[KernelDisagreement, ...]
    coverage: tuple[CoverageBand, ...]
    drift: Drift | None
    undersampled_kinds: tuple[KindCoverage, ...]
    members: tuple[Reading, ...]
    next_measurements: tuple[NextMeasurement, ...]
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-ready dict; its keys are those of the first release."""
        return {_STORED_KEYS.get(name, name): value for name, value in asdict(self).items()}

    @property
    def summary(self) -> str:
        """Format the report as a few lines of text."""
        state = "calibrated" if self.calibrated else "NOT CALIBRATED on your device"
        lines = [f"{self.device} {self.precision}, {state}: {self.measurements} measurements"]
        if not self.calibrated:
            lines.append(f"  numbers from: {self.provenance or 'not stated'}")
        if self.errors is not None:
            errors = self.errors
            lines.append(
                f"  {errors.networks} networks, {self.checked}: median error {errors.median_error_rel:.1%}, "
                f"worst {errors.worst_error_rel:.1%}, {errors.within10:.0%} within 10 %"
            )
            band = self.coverage[0]
            lines.append(
                f"  {band.inside} of {band.networks} intervals held ({band.share:.0%}; nominal {self.level:.0%}), "
                f"typically +{band.half_width_rel:.0%}"
            )
        if self.held_out_family_errors is not None:
            strange = self.held_out_family_errors
            lines.append(
                f"  with the whole family left out: median error {strange.median_error_rel:.1%}, "
                f"{strange.within10:.0%} within 10 %, {strange.inside} of {strange.networks} intervals held"
            )
        if len(self.families) > 1:
            worst = [f"{g.name} {g.median_error_rel:.1%}" for g in self.families[:_ROWS_IN_SUMMARY]]
            lines.append(f"  worst families: {', '.join(worst)}")
        if self.worst_kernels:
            kernel = self.worst_kernels[0]
            lines.append(
                f"  worst kernel: {kernel.kind} ({kernel.shape}): {kernel.predicted_ms:.3f} ms predicted, "
                f"{kernel.profiled_ms:.3f} ms profiled"
            )
        if self.drift is not None:
            repeats = self.drift.median_repeat_rel
            words = "" if repeats is None else f", networks measured again changed by {repeats:.1%}"
            lines.append(f"  reference network: spread {self.drift.spread_rel:.1%}{words}")
        lines += [f"  next: {sentence}" for sentence in self.advice]
        return "\n".join(lines)


def build_latency_report(
    model: LatencyModel,
    measurements: Sequence[Measurement] = (),
    *,
    leave_out: LeaveOut | None = None,
    family_of: Callable[[Measurement], str] | None = None,
    name_of: Callable[[Measurement], str] | None = None,
    suggest: Callable[[], Sequence[NextMeasurement]] | None = None,
    members: Sequence[Reading] = (),
) -> LatencyReport:
    """Compare a model with measurements of its device.

    Args:
        model: calibrated or bundled model.
        measurements: measurements of the model's device and precision, and of its fingerprint if it is calibrated.
        leave_out: estimates of networks by models that did not see them; by default models like this one are fitted
            without them. A bundled model did not see any and predicts itself.
        family_of, name_of: family and name of a measurement; by default its ``family`` and ``subject``.
        suggest: returns the suggested measurements; called last.
        members: networks to show as predicted against measured, such as the members of a front.

    Raises:
        ValueError: a measurement is of another device, precision or, for a calibrated model, fingerprint.
    """
    _check(model, measurements)
    name_of = name_of or (lambda item: item.subject)
    networks = by_network(measurements)
    family_of = family_of or (lambda item: item.family)
    found, checked = LeftOut(()), "too few networks to leave any out"
    if not model.calibrated:
        found = LeftOut([model.predict(items[0].kernels) for items in networks])
        checked = "none of which the model has seen"
    elif len(networks) >= LEAST_NETWORKS:
        found = (leave_out or left_out(model, family_of))(networks)
        checked = "each predicted by a model that did not see it"
    level = median_speed(model)
    parity, held_out_family = (
        readings(networks, estimates, name_of, family_of, level) for estimates in (found.alone, found.with_family)
    )
    kinds, worst = kernel_errors(model, networks, name_of)
    families = errors_by_family(parity)
    drift = drift_of(measurements, networks, name_of)
    known = _undersampled_kinds(model, networks, members)
    noises = sorted(item.noise_rel for item in measurements)
    noisy = sum(item.noisy for item in measurements)
    return LatencyReport(
        device=model.device,
        precision=model.precision,
        fingerprint=dict(model.fingerprint),
        fingerprint_id=model.fingerprint_id,
        calibrated=model.calibrated,
        provenance=model.provenance,
        fitted_at=model.fitted_at,
        level=model.level,
        quality=asdict(model.quality),
        measurements=len(measurements),
        noisy=noisy,
        noise_rel=noises[len(noises) // 2] if noises else None,
        without_kernels=sum(not item.kernels for item in measurements),
        checked=checked,
        parity=parity,
        errors=group_errors("all", parity),
        families=families,
        held_out_family=held_out_family,
        held_out_family_errors=group_errors("all", held_out_family),
        held_out_families=errors_by_family(held_out_family),
        kinds=kinds,
        worst_kernels=worst,
        coverage=coverage_bands(parity),
        drift=drift,
        undersampled_kinds=known,
        members=tuple(members),
        next_measurements=tuple(suggest() if suggest else ()),
        advice=_advice(model, len(networks), noisy, len(measurements), families, drift, known),
    )


def _check(model: LatencyModel, measurements: Sequence[Measurement]) -> None:
    for item in measurements:
        same = (item.device, item.precision) == (model.device, model.precision)
        if not same or (model.calibrated and item.fingerprint_id != model.fingerprint_id):
            raise ValueError(
                f"{item.subject} was measured on {item.device} {item.precision} (fingerprint {item.fingerprint_id}), the "
                f"model speaks for {model.device} {model.precision} ({model.fingerprint_id}); they are never mixed"
            )


def _undersampled_kinds(
    model: LatencyModel, networks: Sequence[Sequence[Measurement]], members: Sequence[Reading]
) -> tuple[KindCoverage, ...]:
    kinds = [{kernel.kind for kernel in items[0].kernels} - {"view"} for items in networks]
    missing = {kind for reading in members for kind in reading.unknown_kinds}
    rows = []
    for kind in sorted({*missing, *(kind for present in kinds for kind in present)}):
        count = sum(kind in present for present in kinds)
        if count < _FEW_NETWORKS or kind not in model.kinds:
            wanted = sum(kind in reading.unknown_kinds for reading in members)
            rows.append(KindCoverage(kind, count, wanted))
    return tuple(sorted(rows, key=lambda row: (row.networks, -row.wanted_by, row.kind)))


def _advice(
    model: LatencyModel,
    networks: int,
    noisy: int,
    measurements: int,
    families: Sequence[GroupErrors],
    drift: Drift | None,
    undersampled_kinds: Sequence[KindCoverage],
) -> tuple[str, ...]:
    sentences = []
    if not model.calibrated:
        sentences.append(
            "nothing of this model was measured on your device: calibrate it (`paretoseg calibrate`), ten networks already help."
        )
    elif networks < _MANY_NETWORKS:
        sentences.append(f"{networks} networks are few: calibrate again with more time, up to {_MANY_NETWORKS} or so.")
    if measurements and noisy > _MANY_NOISY_REL * measurements:
        sentences.append(f"{noisy} of {measurements} measurements are noisy: repeat them on a quiet, cool device.")
    if drift is not None and drift.spread_rel > _LARGE_DRIFT_REL:
        sentences.append(
            f"the reference network itself varied by {drift.spread_rel:.0%}: lock the clocks, or let nothing else run."
        )
    wrong = [group for group in families if group.median_error_rel > _LARGE_ERROR_REL and group.networks > 1]
    if len(families) > 1 and wrong:
        words = ", ".join(f"{group.name} ({group.median_error_rel:.0%})" for group in wrong[:_ROWS_IN_SUMMARY])
        sentences.append(f"measure more of the families that are predicted worst: {words}.")
    unknown = [row.kind for row in undersampled_kinds if row.kind not in model.kinds]
    if unknown:
        sentences.append(f"measure networks with kernels the model has no data for: {', '.join(unknown)}.")
    return tuple(sentences)
