"""Shared steps of calibrating a board and of measuring given networks on it: session, connection, batches, offline transfer, fit."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.board.kit import agent_path
from hw_latency_model.board.monitor import JobMonitor
from hw_latency_model.board.report import describe_board
from hw_latency_model.board.results import BoardResults
from hw_latency_model.board.session import Batch, BoardSession
from hw_latency_model.board.transport import AgentLink, RetryPolicy, find_results, open_link, write_offline_kit
from hw_latency_model.bundled.load import load_bundled
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.model.start import fit_from_others
from hw_latency_model.store.measurement_store import MeasurementStore
from search_spaces._common.errors import UserError

Progress = Callable[[str], None]

MOST_ORDERS = 3
"""Measurements of a network are attempted at most this often without a valid result."""


class BoardRun(ABC):
    """State of one command on a board.

    Args:
        config: the device's configuration.
        store: measurement store of the device.
        progress: called with single lines.
        folder: name of the session's folder below ``calibration.output_dir``.

    Attributes:
        session: files of the session.
        fresh: measurements added to the store by this command.
        lost_connections: number of connections lost and re-established.
    """

    def __init__(self, config: DeviceConfig, store: MeasurementStore, progress: Progress, folder: str) -> None:
        self.config, self.store, self.progress = config, store, progress
        self.started = time.monotonic()
        device = config.device
        self.session = BoardSession(
            config.calibration.output_dir / folder, device=device.name, precision=device.precision
        )
        self.fresh = 0
        self._link: AgentLink | None = None
        self._retry: RetryPolicy | None = None

    @property
    def elapsed_s(self) -> float:
        """Wall seconds since the command began."""
        return time.monotonic() - self.started

    @property
    def lost_connections(self) -> int:
        return 0 if self._retry is None else self._retry.drops

    @abstractmethod
    def describe(self, subject: str) -> str:
        """A short description of a network or chain."""

    @abstractmethod
    def clock(self) -> str:
        """Elapsed time as text."""

    def connect(self, announcement: str = "") -> None:
        """Open the connection and check the board; ``announcement`` is reported first and may name the ``{place}``.

        Raises:
            UserError: the board does not answer, or cannot run the agent.
        """
        link = open_link(self.config, self.session.id)
        retry = RetryPolicy(link.shell.place, self.progress)
        if announcement:
            self.progress(announcement.format(place=link.shell.place))
        self.progress(describe_board(retry(lambda: link.check(agent_path()))))
        self._link, self._retry = link, retry

    def run_batch(self, batch: Batch, **limits: Any) -> BoardResults:
        """Measure a batch over the connection, storing each result as it arrives; ``limits`` as in ``JobMonitor.measure``."""
        assert self._link is not None and self._retry is not None, "connect first"
        monitor = JobMonitor(
            batch,
            self.session,
            self._link,
            self._retry,
            self.progress,
            take_in=self.take_in,
            describe=self.describe,
            clock=self.clock,
        )
        return monitor.measure(**limits)

    def take_in(self) -> BoardResults:
        """Store and return all results received so far."""
        results = self.session.results()
        new, _ = self.store.add_all(zip(results.measurements, results.protocols, strict=True))
        self.fresh += new
        return results

    def import_results(self, path: Path) -> BoardResults:
        """Add results that were transferred offline.

        Raises:
            UserError: there is no results file at ``path``, or it cannot be read.
        """
        self.session.import_results(find_results(path))
        return self.take_in()

    def settled(self, results: BoardResults) -> set[str]:
        """Networks that need no further measurement: measured, failed for good, or attempted ``MOST_ORDERS`` times."""
        orders = Counter(job.subject for job in self.session.jobs().values())
        failed = {failure.subject for failure in results.failures if not failure.retry}
        given_up = {subject for subject, count in orders.items() if count >= MOST_ORDERS}
        return {item.subject for item in results.measurements} | failed | given_up

    def offline_kit(self, batch: Batch, target: Path, command: str) -> Path:
        """Write the batch's kit for offline transfer to ``target``; ``command`` imports its results.

        Raises:
            UserError: the folder cannot be written.
        """
        kit = self.session.kit_folder(batch.number)
        hours = sum(batch.seconds) / 3600
        return write_offline_kit(kit, target, device=self.config.device.name, hours=hours, command=command)


def fit_board_model(
    config: DeviceConfig,
    store: MeasurementStore,
    fingerprint: Mapping[str, Any],
    others: Mapping[str, LatencyModel] | None = None,
    progress: Progress | None = None,
) -> LatencyModel:
    """Fit all measurements of the device under one fingerprint, and write the model to ``config.model_path``.

    Args:
        others: models of other devices by name, of which the most alike one's prior may replace that of the bundled model.
        progress: called with a line on which it was.

    Raises:
        UserError: the store holds too little, or the model cannot be written.
    """
    device = config.device
    bundled = bundled_model(config)
    prior = bundled.fit_result.prior if bundled is not None else None
    everything = store.all(device.name, fingerprint, precision=device.precision)
    if others:
        start = {device.profile_name: bundled, **others} if bundled is not None else others
        model, source = fit_from_others(everything, start, device=device.name, fingerprint=fingerprint)
        if progress is not None:
            progress(f"the model starts from {f'that of {source}' if source else 'this device alone'}")
    else:
        model = LatencyModel.fit(everything, device=device.name, fingerprint=fingerprint, prior=prior)
    model.save(config.model_path)
    return model


def bundled_model(config: DeviceConfig) -> LatencyModel | None:
    """The bundled model of such a device; None if there is none."""
    try:
        return load_bundled(config.device.profile_name, config.device.precision)
    except UserError:
        return None
