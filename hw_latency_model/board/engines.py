"""Engines of given networks, built and measured on a board, and the logits that they compute for given images."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.board.device_config import INT8, DeviceConfig
from hw_latency_model.board.kit import write_images, write_kit
from hw_latency_model.board.networks import BoardMeasured, GivenNetwork, NetworksRun
from hw_latency_model.board.plan import Suggestion
from hw_latency_model.board.results import BoardResults, EngineOutputs, KnownJob
from hw_latency_model.board.run import MOST_ORDERS, Progress
from hw_latency_model.board.session import Batch
from hw_latency_model.board.transport import find_results
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.store.measurement_store import MeasurementStore
from hw_latency_model.types import Measurement


@dataclass(frozen=True)
class GivenImages:
    """Images to run through an engine.

    Attributes:
        pixels: uint8 (N, height, width, 3), RGB, in the size of the network's input.
        mean, std: normalisation per channel of images scaled to 0..1.
    """

    pixels: NDArray[np.uint8]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def file(self) -> bytes:
        """Content of the images file that the agent reads (`hw_latency_model.agent.parity`)."""
        count, height, width, _ = self.pixels.shape
        head = json.dumps({"count": count, "height_px": height, "width_px": width})
        moments = zip(self.mean, self.std, strict=True)
        values = np.arange(256, dtype=np.float32)
        table = [(values / np.float32(255) - np.float32(mean)) / np.float32(std) for mean, std in moments]
        planes = np.ascontiguousarray(self.pixels.transpose(0, 3, 1, 2))
        return head.encode() + b"\n" + np.stack(table).astype("<f4").tobytes() + planes.tobytes()


@dataclass(frozen=True)
class BuiltEngine:
    """Engine of a network.

    Attributes:
        outputs: its measurement, and the facts of its logits.
        logits: float32, flat, of all images; None where there are none, for ``reason``.
        reason: cause of missing logits.
    """

    outputs: EngineOutputs
    logits: NDArray[np.float32] | None
    reason: str


@dataclass(frozen=True)
class EnginesBuilt:
    """Results of `build_engines`.

    Attributes:
        engines: by subject.
        measured: as of `measure_networks`.
    """

    engines: Mapping[str, BuiltEngine]
    measured: BoardMeasured


def build_engines(
    config: DeviceConfig,
    networks: Sequence[GivenNetwork],
    images: Mapping[str, GivenImages],
    *,
    results: Path | None = None,
    progress: Progress | None = None,
    repeat: Collection[str] = (),
    workspace_mb: int | None = None,
) -> EnginesBuilt:
    """Build, measure and run the networks' engines on a board; calling it again resumes.

    An engine that the board has of the same file, board, TensorRT and precision is not built again. On a board without TensorRT the
    session of ONNX Runtime is the engine.

    Args:
        config, networks, results, progress: as of `measure_networks`. In INT8 (`DeviceConfig.in_int8`) the networks hold Q/DQ pairs, and
            no latency model learns from them.
        images: of each network, by subject.
        repeat: subjects to measure and run once more.
        workspace_mb: memory for building an engine; 512 if None.

    Raises:
        UserError, KeyboardInterrupt: as `measure_networks`.
    """
    with contextlib.closing(MeasurementStore(config.store_location)) as store:
        run = _EnginesRun(config, networks, store, progress or (lambda line: None), repeat)
        run.images, run.workspace_mb = images, workspace_mb
        measured = run.run(results)
        return EnginesBuilt(run.engines(), measured)


class _EnginesRun(NetworksRun):
    COMMAND = "paretoseg build STUDY.yaml --board DEVICE.yaml"

    def __init__(
        self,
        config: DeviceConfig,
        networks: Sequence[GivenNetwork],
        store: MeasurementStore,
        progress: Progress,
        repeat: Collection[str],
    ) -> None:
        folder = "engines-int8" if config.device.precision == INT8 else "engines"
        super().__init__(config, networks, store, progress, repeat, folder)
        self.images: Mapping[str, GivenImages] = {}
        self.workspace_mb: int | None = None
        self._digests: dict[str, str] = {}

    def write_kit(self, kit: Path, chosen: Sequence[Suggestion]) -> tuple[KnownJob, ...]:
        return write_kit(
            kit,
            self.config,
            self.source,
            chosen,
            number=self.session.next_number,
            extra=self.extra,
            workspace_mb=self.workspace_mb,
        )

    def extra(self, key: str, folder: Path) -> dict[str, Any]:
        return {**super().extra(key, folder), "images": write_images(folder, self.images[key].file())}

    def _learn(self, measured: Sequence[Measurement]) -> LatencyModel | None:
        """Refit the board's model, to which INT8 engines do not belong."""
        return None if self.config.device.precision == INT8 else super()._learn(measured)

    def finished(self, results: BoardResults) -> set[str]:
        """Networks whose present file has an engine that ran the images, failed for good, or was ordered too often."""
        jobs = self._jobs()
        done = {key for key, orders in jobs.items() if any(job.id in results.outputs for job in orders)}
        failed = {failure.job_id for failure in results.failures if not failure.retry}
        broken = {key for key, orders in jobs.items() if any(job.id in failed for job in orders)}
        return done | broken | {key for key, orders in jobs.items() if len(orders) >= MOST_ORDERS}

    def run_batch(self, batch: Batch, **limits: object) -> BoardResults:
        """Measure a batch, and fetch the logits of its jobs."""
        results = super().run_batch(batch, **limits)
        assert self._link is not None and self._retry is not None
        link, retry = self._link, self._retry
        for job in batch.jobs:
            found = results.outputs.get(job.id)
            if found is not None and found.file is not None and self._logits(found) is None:
                name, size = found.file, found.size_bytes
                retry(lambda name=name, size=size: link.fetch(name, size, self.session.outputs_path(name)))  # type: ignore[misc]
        return results

    def import_results(self, path: Path) -> BoardResults:
        results = super().import_results(path)
        names = [found.file for found in results.outputs.values() if found.file is not None]
        self.session.import_outputs(find_results(path), names)
        return results

    def engines(self) -> dict[str, BuiltEngine]:
        """The newest engine of each network's present file."""
        results, engines = self.session.results(), {}
        for key, orders in self._jobs().items():
            found = [results.outputs[job.id] for job in orders if job.id in results.outputs]
            if found:
                newest = found[-1]
                logits = self._logits(newest)
                missing = "the file of its logits is missing or damaged: run the same command again"
                engines[key] = BuiltEngine(newest, logits, newest.reason if newest.file is None else missing)
        return engines

    def _jobs(self) -> dict[str, list[KnownJob]]:
        """Jobs of each network's present file, oldest first."""
        for key, network in self.networks.items():
            if key not in self._digests and network.path.is_file():
                self._digests[key] = hashlib.sha256(network.path.read_bytes()).hexdigest()
        found: dict[str, list[KnownJob]] = {key: [] for key in self.networks}
        for job in self.session.jobs().values():
            if job.sha256 == self._digests.get(job.subject):
                found[job.subject].append(job)
        return found

    def _logits(self, outputs: EngineOutputs) -> NDArray[np.float32] | None:
        """Logits of a job, where its file is here and whole."""
        if outputs.file is None:
            return None
        path = self.session.outputs_path(outputs.file)
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != outputs.sha256:
            return None
        return np.frombuffer(content, "<f4").copy()
