"""Measurement of given networks on a board, such as a study's front, with the agent, protocol, store and model of its calibration."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exports import DeviceProfile, get_profile, lint_onnx
from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.board.kit import write_kit
from hw_latency_model.board.plan import NETWORK, Suggestion, job_cost
from hw_latency_model.board.report import clock_text
from hw_latency_model.board.results import BoardResults, KnownJob
from hw_latency_model.board.run import MOST_ORDERS, BoardRun, Progress, fit_board_model
from hw_latency_model.board.session import Batch
from hw_latency_model.kernels.extract import kernels_from_onnx
from hw_latency_model.model.fitting import MIN_MEASUREMENTS
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.store.measurement_store import MeasurementStore
from hw_latency_model.types import KernelSpec, Measurement
from search_spaces._common.errors import UserError


@dataclass(frozen=True)
class GivenNetwork:
    """A network to measure.

    Attributes:
        subject: key in the store: networks of one subject have the same latency, regardless of their weights.
        path: ONNX file.
        family: family of the network, for validation on held-out families.
        label: short description.
        keep_fp32: ONNX nodes that stay in float32 in an FP16 engine.
    """

    subject: str
    path: Path
    family: str
    label: str
    keep_fp32: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoardMeasured:
    """Results of a measurement on a board.

    Attributes:
        measurements: the latest of each subject.
        failed: by subject, the reason for a failed measurement or a network that the device does not support.
        kit: folder for offline transfer to the board; None if none is waiting.
        model: the refitted model; None if nothing was measured, or the model was not refitted.
    """

    measurements: Mapping[str, Measurement]
    failed: Mapping[str, str]
    kit: Path | None
    model: LatencyModel | None


def measure_networks(
    config: DeviceConfig,
    networks: Sequence[GivenNetwork],
    *,
    results: Path | None = None,
    progress: Progress | None = None,
    repeat: Collection[str] = (),
) -> BoardMeasured:
    """Measure the networks without a measurement, store the results and refit the device's model; calling it again resumes.

    Args:
        config: the device's configuration, see ``load_device``.
        networks: networks of distinct subjects; only these are reported.
        results: import these results, transferred offline, instead of measuring.
        progress: called with single lines.
        repeat: subjects to measure once more, though they have a measurement.

    Raises:
        UserError: a problem for the user to solve; all measurements are kept, and the same call resumes.
        KeyboardInterrupt: the agent was stopped and restored the clocks; all measurements are kept.
    """
    with contextlib.closing(MeasurementStore(config.store_location)) as store:
        return NetworksRun(config, networks, store, progress or (lambda line: None), repeat).run(results)


class NetworksRun(BoardRun):
    """Measurement of given networks in a session of its own.

    Args:
        config, networks, progress, repeat: as of `measure_networks`.
        store: the device's measurement store.
        folder: name of the session's folder.
    """

    COMMAND = "paretoseg measure STUDY.yaml --board DEVICE.yaml"
    """Command that imports results that were transferred offline."""

    def __init__(
        self,
        config: DeviceConfig,
        networks: Sequence[GivenNetwork],
        store: MeasurementStore,
        progress: Progress,
        repeat: Collection[str] = (),
        folder: str = "networks",
    ) -> None:
        super().__init__(config, store, progress, folder)
        self.networks = {network.subject: network for network in networks}
        self.source = _Files(self.networks, get_profile(config.device.profile_name), config.device.runtime)
        self._repeat = repeat
        self._measured_before, self._ordered_before = Counter[str](), Counter[str]()

    def run(self, transferred: Path | None) -> BoardMeasured:
        """Measure, or import results; see `measure_networks`."""
        results = self.take_in() if transferred is None else self.import_results(transferred)
        self._measured_before, self._ordered_before = _measured(results), self._ordered()
        kit = None
        if transferred is None and self.config.transport == "offline":
            kit = self._kit(results)
        elif transferred is None and (self.session.open_batch(results) or self._todo(results)):
            results = self._measure(results)
        measurements = {item.subject: item for item in results.measurements if item.subject in self.networks}
        failed = {item.subject: item.reason for item in results.failures if item.subject in self.networks}
        failed = {key: why for key, why in failed.items() if key not in measurements} | self.source.refused
        return BoardMeasured(measurements, failed, kit, self._learn(list(measurements.values())))

    def _measure(self, results: BoardResults) -> BoardResults:
        self.connect()
        for _ in range(MOST_ORDERS):
            batch = self.session.open_batch(results) or self._order(results)
            if batch is None:
                break
            results = self.run_batch(batch)
        return results

    def _kit(self, results: BoardResults) -> Path | None:
        batch = self.session.open_batch(results)
        if batch is not None and not self.session.kit_folder(batch.number).is_dir():
            batch = None  # its networks are planned again
        batch = batch or self._order(results)
        if batch is None:
            return None
        target = self.config.calibration.output_dir / f"{self.session.folder.name}-kit-{batch.number:04d}"
        if target.is_dir():
            return target
        return self.offline_kit(batch, target, self.COMMAND)

    def settled(self, results: BoardResults) -> set[str]:
        """Networks that need no further measurement; those to repeat need one by this command."""
        measured, ordered = _measured(results), self._ordered()
        open_ones = {
            subject
            for subject in self._repeat
            if measured[subject] <= self._measured_before[subject]
            and ordered[subject] < self._ordered_before[subject] + MOST_ORDERS
        }
        return self.finished(results) - open_ones

    def finished(self, results: BoardResults) -> set[str]:
        """Networks that need no further measurement, were none to be repeated."""
        return super().settled(results)

    def write_kit(self, kit: Path, chosen: Sequence[Suggestion]) -> tuple[KnownJob, ...]:
        """Write the next batch's kit; return its jobs."""
        return write_kit(kit, self.config, self.source, chosen, number=self.session.next_number, extra=self.extra)

    def extra(self, key: str, folder: Path) -> dict[str, Any]:
        """Further fields of a network's job; ``folder`` is the kit's."""
        keep = self.networks[key].keep_fp32
        return {"keep_fp32": list(keep)} if keep else {}

    def _ordered(self) -> Counter[str]:
        return Counter(job.subject for job in self.session.jobs().values())

    def _todo(self, results: BoardResults) -> list[str]:
        settled = self.settled(results) | self.source.refused.keys()
        return [key for key in self.networks if key not in settled]

    def _order(self, results: BoardResults) -> Batch | None:
        """Write the kit of all networks left to measure; None if there are none."""
        todo = self._todo(results)
        if not todo:
            return None
        kit = self.session.kit_folder(self.session.next_number)
        shutil.rmtree(kit, ignore_errors=True)  # left by a call that ended before the batch was stored
        chosen = [Suggestion(key, NETWORK, ()) for key in todo]
        jobs = self.write_kit(kit, chosen)
        if not jobs:
            return None
        cost, measure_s = job_cost(self.config, self.session.jobs(), results)
        seconds = [cost.seconds(job.kernels) + measure_s for job in jobs]
        self.progress(
            f"{len(jobs)} network{'' if len(jobs) == 1 else 's'} to measure, about {clock_text(sum(seconds))}"
        )
        return self.session.add_batch(jobs, seconds)

    def _learn(self, measured: Sequence[Measurement]) -> LatencyModel | None:
        """Refit the board's model with the new measurements, unless it was calibrated under another fingerprint."""
        if not measured:
            return None
        path, newest = self.config.model_path, max(measured, key=lambda item: item.started_at)
        if path.is_file() and LatencyModel.load(path).fingerprint_id != newest.fingerprint_id:
            self.progress(
                f"the board is set up otherwise than when {path} was calibrated (clocks, power mode or TensorRT): the model stays as it "
                f"is. `paretoseg measurements list` tells the set-ups apart; calibrate again to predict for the new one."
            )
            return None
        device = self.config.device
        known = self.store.all(device.name, newest.fingerprint, precision=device.precision)
        if len({item.subject for item in known}) < MIN_MEASUREMENTS:
            self.progress(
                f"{len(known)} networks of this set-up are measured, a model needs {MIN_MEASUREMENTS}: it stays as it is"
            )
            return None
        return fit_board_model(self.config, self.store, newest.fingerprint)

    def describe(self, subject: str) -> str:
        network = self.networks.get(subject)
        return network.label if network is not None else subject

    def clock(self) -> str:
        return clock_text(self.elapsed_s)


def _measured(results: BoardResults) -> Counter[str]:
    return Counter(item.subject for item in results.measurements)


class _Files:
    """Unchanged ONNX files; networks that the device does not support are left out, with the reason in ``refused``."""

    def __init__(self, networks: Mapping[str, GivenNetwork], profile: DeviceProfile, runtime: str) -> None:
        self._networks, self._profile, self._runtime = networks, profile, runtime
        self.refused: dict[str, str] = {}

    def write(self, key: str, path: Path) -> tuple[KernelSpec, ...] | None:
        try:
            shutil.copyfile(self._networks[key].path, path)
        except OSError as error:
            raise UserError(
                f"cannot copy {self._networks[key].path}: {error.strerror}. Export the trial again."
            ) from error
        errors = [finding.message for finding in lint_onnx(path, self._profile) if finding.severity == "error"]
        if errors:
            self.refused[key] = f"{self._profile.name} would refuse it ({errors[0]})"
            path.unlink()
            return None
        return tuple(kernels_from_onnx(path, runtime=self._runtime))

    def family(self, key: str) -> str:
        return self._networks[key].family
