"""Calibration of a device: measure architectures of the search space within a time budget, store them, fit the model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from exports import ExportError, export_onnx
from exports.quantization.qdq import export_quantized
from exports.quantization.quantize import quantize
from hw_latency_model.file_names import MODEL_FILE, STORE_FILE
from hw_latency_model.kernels.extract import kernels_from_onnx
from hw_latency_model.local.device import Device, get_device
from hw_latency_model.local.protocol import ProtocolSettings
from hw_latency_model.local.sampling import covering_order
from hw_latency_model.model.calibration_summary import CalibrationSummary
from hw_latency_model.model.fitting import MIN_MEASUREMENTS
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.model.start import fit_from_others
from hw_latency_model.store.measurement_store import MeasurementStore
from hw_latency_model.types import Measurement
from search_spaces import Candidate, SearchSpace, SegmentationNet
from search_spaces._common.errors import UserError
from search_spaces.describe import architecture_words

MAX_NETWORKS = 200
FIT_RESERVE_REL = 0.1
"""Share of the budget reserved for fitting."""


@dataclass(frozen=True, kw_only=True)
class CalibrationReport(CalibrationSummary):
    """Summary of this machine's calibration.

    Attributes:
        model_path, store_path: files of the model and of all measurements.
        noise_rel: median relative noise of the measurements.
        waited_rel: median share of wall time during which other processes held the core.
        reference_drift_rel: spread of the reference network over the calibration.
    """

    model_path: Path
    store_path: Path
    noise_rel: float
    waited_rel: float
    reference_drift_rel: float

    @property
    def summary(self) -> str:
        """Format the report as a few lines of text."""
        lines = [
            f"{self.device}: {self.measured} networks measured in {self.seconds:.0f} s"
            + (f", {self.networks} with those of earlier calibrations" if self.networks > self.measured else ""),
            self.accuracy_text,
            f"machine: noise {self.noise_rel:.1%}, reference spread {self.reference_drift_rel:.1%}, "
            f"{self.waited_rel:.0%} of the time the core was taken by others, {self.noisy} measurements marked noisy",
            f"model: {self.model_path}",
        ]
        return "\n".join([*lines, *(f"left out: {reason}" for reason in self.skipped)])


def calibrate(
    device: Device | str,
    space: SearchSpace,
    num_classes: int,
    out_dir: Path,
    *,
    budget_s: float = 90.0,
    max_networks: int = MAX_NETWORKS,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    settings: ProtocolSettings | None = None,
    others: Mapping[str, LatencyModel] | None = None,
) -> CalibrationReport:
    """Measure a covering sample of ``space`` on ``device``, append it to the store in ``out_dir``, and fit the model.

    Each measurement is stored at once: an interrupted calibration loses at most one. A further call measures other
    architectures first and fits on all measurements with the same fingerprint.

    Args:
        device: a device or its name.
        num_classes: channels of the logits.
        out_dir: folder of ``latency_model.json`` and ``measurements.sqlite``.
        budget_s: wall seconds; at least five networks are measured regardless.
        max_networks: limit on the number of networks.
        seed: seed of the sample.
        progress: called with one line after each network.
        settings: settings of the timing protocol; default: those of the device.
        others: models of other devices by name, from whose priors the model may start.

    Raises:
        UserError: unknown device, the folder cannot be written, or it holds a model of another precision.
    """
    started = time.perf_counter()
    target = get_device(device) if isinstance(device, str) else device
    fingerprint = target.fingerprint()
    _check_precision(out_dir / MODEL_FILE, target)
    store = MeasurementStore(out_dir / STORE_FILE)
    try:
        known = {item.subject for item in store.all(target.name, fingerprint)}
        order = covering_order(space, MAX_NETWORKS + len(known), seed=seed)
        order = [item for item in order if subject_of(space, item, num_classes) not in known][:max_networks]
        fresh: list[Measurement] = []
        skipped: list[str] = []
        longest = 0.0
        with tempfile.TemporaryDirectory() as folder:
            for candidate in order:
                begun = time.perf_counter()
                left = budget_s * (1.0 - FIT_RESERVE_REL) - (begun - started)
                if left < longest and len(known) + len(fresh) >= MIN_MEASUREMENTS:
                    break
                try:
                    measurement = measure_candidate(
                        target, space, candidate, num_classes, Path(folder), settings=settings
                    )
                except ExportError as error:
                    skipped.append(str(error))
                    continue
                store.add(measurement, protocol=asdict(settings or ProtocolSettings()))
                fresh.append(measurement)
                longest = max(0.7 * longest, time.perf_counter() - begun)
                if progress is not None:
                    progress(_line(measurement, candidate, len(fresh), time.perf_counter() - started, budget_s))
        everything = store.all(target.name, fingerprint)
    finally:
        store.close()
    model, source = fit_from_others(everything, others or {}, device=target.name, fingerprint=fingerprint)
    if others and progress is not None:
        progress(f"the model starts from {f'that of {source}' if source else 'this device alone'}")
    model_path = out_dir / MODEL_FILE
    model.save(model_path)
    recent = fresh or everything
    return CalibrationReport(
        device=target.name,
        fingerprint=fingerprint,
        model_path=model_path,
        store_path=out_dir / STORE_FILE,
        measured=len(fresh),
        networks=model.quality.networks,
        skipped=tuple(skipped),
        seconds=time.perf_counter() - started,
        noise_rel=model.quality.noise_rel,
        noisy=sum(item.noisy for item in recent),
        waited_rel=sorted(item.waited_rel for item in recent)[len(recent) // 2],
        loo_median_error_rel=model.quality.median_error_rel,
        loo_within10=model.quality.within10,
        coverage=model.quality.coverage,
        reference_drift_rel=model.quality.reference_drift_rel,
    )


def _check_precision(path: Path, device: Device) -> None:
    try:
        there = LatencyModel.load(path)
    except UserError:
        return  # none, or a damaged one, which a calibration replaces
    if there.precision != device.precision:
        raise UserError(
            f"{path} is the latency model of {there.device} in {there.precision}, which a calibration in {device.precision} would "
            "replace. Set device.latency_model to a file in another folder."
        )


def measure_candidate(
    device: Device,
    space: SearchSpace,
    candidate: Candidate,
    num_classes: int,
    folder: Path,
    *,
    settings: ProtocolSettings | None = None,
) -> Measurement:
    """Build the candidate's final shape, export it to ``folder``, time it, and attach its kernels.

    Raises:
        ExportError: the network has no ONNX form.
    """
    subject = subject_of(space, candidate, num_classes)
    path = folder / f"{subject}.onnx"
    _export(space.build_pruned(candidate, num_classes), space.input_hw(candidate), path, device, candidate.id)
    try:
        measurement = device.measure(path, subject=subject, settings=settings)
        kernels = kernels_from_onnx(path, runtime=device.runtime)
        family = str(candidate.params.get("family", ""))
        return replace(measurement, family=family).with_kernels(kernels, device.kernel_shares(path, kernels))
    finally:
        path.unlink(missing_ok=True)


def _export(net: SegmentationNet, hw: tuple[int, int], path: Path, device: Device, candidate_id: str) -> None:
    """Export the network; the ranges of an INT8 network, which do not affect its latency, are calibrated on noise."""
    subject = f"candidate {candidate_id}"
    if device.precision != "int8":
        export_onnx(net, hw, path, subject=subject)
        return
    noise = torch.randn(1, 3, *hw, generator=torch.Generator().manual_seed(0))
    export_quantized(quantize(net, hw, [noise], subject=subject), path)


def subject_of(space: SearchSpace, candidate: Candidate, num_classes: int) -> str:
    """Subject of a measurement: the architecture and its number of classes."""
    return f"{space.architecture_id(candidate)}-{num_classes}"


def _line(measurement: Measurement, candidate: Candidate, done: int, seconds: float, budget_s: float) -> str:
    shape = architecture_words(candidate.params)
    mark = ", noisy" if measurement.noisy else ""
    return f"[{seconds:3.0f}/{budget_s:.0f} s] {done:3d}  {measurement.latency_ms_p50:8.2f} ms{mark}  {shape}"
