"""Measuring given networks on a board, a study's winners above all: the agent, the protocol, the store and the model of its calibration."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exports import DeviceProfile, get_profile, lint_onnx
from hw_latency_model.board.costs import job_cost
from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.board.fitting import fit_board_model
from hw_latency_model.board.kit import agent_path, write_kit
from hw_latency_model.board.plan import NETWORK, Suggestion
from hw_latency_model.board.report import clock_text, describe_board
from hw_latency_model.board.results import BoardResults
from hw_latency_model.board.session import Batch, BoardSession
from hw_latency_model.board.transport import Reconnect, find_results, open_link, write_carry_kit
from hw_latency_model.board.watch import BatchWatch
from hw_latency_model.kernels.extract import kernels_from_onnx
from hw_latency_model.model.fitting import MIN_MEASUREMENTS
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.store.measurement_store import MeasurementStore
from hw_latency_model.types import KernelSpec, Measurement
from search_spaces._common.errors import UserError

Say = Callable[[str], None]

MOST_ORDERS = 3
"""A network that was ordered so often without a result that can be believed is left."""


@dataclass(frozen=True)
class GivenNetwork:
    """A network to measure.

    Attributes:
        subject: what it is stored under: networks of one subject take one time, whatever their weights.
        path: its ONNX file.
        family: which networks belong together.
        label: a few words for people.
    """

    subject: str
    path: Path
    family: str
    label: str


@dataclass(frozen=True)
class BoardMeasured:
    """What came back.

    Attributes:
        measurements: by subject, the newest of each.
        failed: by subject, why the board could not measure it, or would refuse it.
        kit: the folder to carry to the board; None where none waits.
        model: after it has learnt; None where nothing was measured, or the model was left as it was.
    """

    measurements: Mapping[str, Measurement]
    failed: Mapping[str, str]
    kit: Path | None
    model: LatencyModel | None


def measure_networks(
    config: DeviceConfig, networks: Sequence[GivenNetwork], *, results: Path | None = None, progress: Say | None = None
) -> BoardMeasured:
    """Measure what was not measured yet; called again, it goes on. All goes into the device's store, and its model learns from it.

    Args:
        config: of the device, see ``load_device``.
        networks: of different subjects; only theirs are reported.
        results: read these, carried from the board, instead of measuring.
        progress: called with a line now and then.

    Raises:
        UserError: something to put right; everything measured is kept, and the same call goes on.
        KeyboardInterrupt: the board was told to stop and gave its clocks back; everything measured is kept.
    """
    with contextlib.closing(MeasurementStore(config.store_location)) as store:
        return _Measuring(config, networks, store, progress or (lambda line: None)).run(results)


class _Measuring:
    def __init__(
        self, config: DeviceConfig, networks: Sequence[GivenNetwork], store: MeasurementStore, say: Say
    ) -> None:
        self.config, self.store, self.say = config, store, say
        self.networks = {network.subject: network for network in networks}
        self.started = time.monotonic()
        device = config.device
        folder = config.calibration.output_dir / "networks"
        self.session = BoardSession(folder, device=device.name, precision=device.precision)
        self.source = _Files(self.networks, get_profile(device.profile_name), device.runtime)

    def run(self, carried: Path | None) -> BoardMeasured:
        if carried is not None:
            self.session.carry_in(find_results(carried))
        results = self._take_in()
        kit = None
        if carried is None and self.config.transport == "offline":
            kit = self._kit(results)
        elif carried is None and (self.session.open_batch(results) or self._todo(results)):
            results = self._measure(results)
        measurements = {item.subject: item for item in results.measurements if item.subject in self.networks}
        failed = {item.subject: item.reason for item in results.failures if item.subject in self.networks}
        failed = {key: why for key, why in failed.items() if key not in measurements} | self.source.refused
        return BoardMeasured(measurements, failed, kit, self._learn(list(measurements.values())))

    def _measure(self, results: BoardResults) -> BoardResults:
        link = open_link(self.config, self.session.id)
        ask = Reconnect(link.shell.place, self.say)
        self.say(describe_board(ask(lambda: link.check(agent_path()))))
        for _ in range(MOST_ORDERS):
            batch = self.session.open_batch(results) or self._order(results)
            if batch is None:
                break
            watch = BatchWatch(
                batch, self.session, link, ask, self.say, take_in=self._take_in, describe=self._label, clock=self._clock
            )
            results = watch.measure()
        return results

    def _kit(self, results: BoardResults) -> Path | None:
        batch = self.session.open_batch(results)
        if batch is not None and not self.session.kit_folder(batch.number).is_dir():
            batch = None  # its networks are ordered anew
        batch = batch or self._order(results)
        if batch is None:
            return None
        target = self.config.calibration.output_dir / f"networks-kit-{batch.number:04d}"
        if not target.is_dir():
            kit = self.session.kit_folder(batch.number)
            hours, command = sum(batch.seconds) / 3600, "paretoseg measure STUDY.yaml --board DEVICE.yaml"
            write_carry_kit(kit, target, device=self.config.device.name, hours=hours, command=command)
        return target

    def _take_in(self) -> BoardResults:
        """What came back so far; all of it is in the store afterwards."""
        results = self.session.results()
        self.store.add_all(zip(results.measurements, results.protocols, strict=True))
        return results

    def _todo(self, results: BoardResults) -> list[str]:
        orders = Counter(job.subject for job in self.session.jobs().values())
        settled = {item.subject for item in results.measurements} | self.source.refused.keys()
        settled |= {failure.subject for failure in results.failures if not failure.retry}
        return [key for key in self.networks if key not in settled and orders[key] < MOST_ORDERS]

    def _order(self, results: BoardResults) -> Batch | None:
        """Write the kit of all that is left to measure; None where nothing is."""
        todo = self._todo(results)
        if not todo:
            return None
        kit = self.session.kit_folder(self.session.next_number)
        shutil.rmtree(kit, ignore_errors=True)  # of a call that ended before it was ordered
        chosen = [Suggestion(key, NETWORK, ()) for key in todo]
        jobs = write_kit(kit, self.config, self.source, chosen, number=self.session.next_number)
        if not jobs:
            return None
        cost, measure_s = job_cost(self.config, self.session.jobs(), results)
        seconds = [cost.seconds(job.kernels) + measure_s for job in jobs]
        self.say(f"{len(jobs)} network{'' if len(jobs) == 1 else 's'} to measure, about {clock_text(sum(seconds))}")
        return self.session.add_batch(jobs, seconds)

    def _learn(self, measured: Sequence[Measurement]) -> LatencyModel | None:
        """Fit the board's model anew with what was measured, unless the board was calibrated under another set-up."""
        if not measured:
            return None
        path, newest = self.config.model_path, max(measured, key=lambda item: item.started_at)
        if path.is_file() and LatencyModel.load(path).fingerprint_id != newest.fingerprint_id:
            self.say(
                f"the board is set up otherwise than when {path} was calibrated (clocks, power mode or TensorRT): the model stays as it "
                f"is. `paretoseg measurements list` tells the set-ups apart; calibrate again to predict for the new one."
            )
            return None
        device = self.config.device
        known = self.store.all(device.name, newest.fingerprint, precision=device.precision)
        if len({item.subject for item in known}) < MIN_MEASUREMENTS:
            self.say(
                f"{len(known)} networks of this set-up are measured, a model needs {MIN_MEASUREMENTS}: it stays as it is"
            )
            return None
        return fit_board_model(self.config, self.store, newest.fingerprint)

    def _label(self, subject: str) -> str:
        network = self.networks.get(subject)
        return network.label if network is not None else subject

    def _clock(self) -> str:
        return clock_text(time.monotonic() - self.started)


class _Files:
    """ONNX files as they are; what the device would refuse stays away, with its reason in ``refused``."""

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
