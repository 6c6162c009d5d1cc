"""Calibration of a board in batches (plan, send, measure, store, fit) until the time is spent or the accuracy is reached."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from exports import get_profile
from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.board.kit import write_kit
from hw_latency_model.board.plan import (
    KERNELS,
    NETWORK,
    Accuracy,
    Suggestion,
    accuracy_of,
    builds_engines,
    choose_batch,
    job_cost,
)
from hw_latency_model.board.pool import BoardPool
from hw_latency_model.board.report import BoardCalibrationReport, clock_text
from hw_latency_model.board.results import BoardResults
from hw_latency_model.board.run import BoardRun, Progress, bundled_model, fit_board_model
from hw_latency_model.board.session import Batch
from hw_latency_model.model.cost_models import fit_cost_models
from hw_latency_model.model.fitting import MIN_MEASUREMENTS
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.model.nano_prior import NanoPrior
from hw_latency_model.store.measurement_store import MeasurementStore
from search_spaces import open_space
from search_spaces._common.errors import UserError

BATCH_SHARE = 0.2
"""Share of the budget planned as one batch, i.e. before the model is refitted."""
SHORTEST_BATCH_S, LONGEST_BATCH_S = 30.0, 1800.0
MOST_JOBS = 24
FEWEST_NETWORKS, MOST_NETWORKS, NETWORKS_PER_S = 20, 120, 1 / 60
"""Bounds on the networks of the search space that are considered; a short calibration considers fewer."""
ACCURACY_NETWORKS = 40


def calibrate_board(
    config: DeviceConfig,
    *,
    hours: float | None = None,
    results: Path | None = None,
    progress: Progress | None = None,
    others: Mapping[str, LatencyModel] | None = None,
) -> BoardCalibrationReport:
    """Measure the device that ``config`` describes and fit its latency model; calling it again resumes.

    Args:
        config: the device's configuration, see ``load_device``.
        hours: time budget of this call; default: that of the configuration.
        results: import these results, transferred offline, instead of measuring.
        progress: called with single lines.
        others: models of other devices by name, from whose priors the model may start.

    Returns:
        A summary. With transport ``offline`` and no results, its ``kit`` is the folder to transfer to the board.

    Raises:
        UserError: a problem for the user to solve; all measurements are kept, and the same call resumes.
        KeyboardInterrupt: the agent was stopped and restored the clocks; all measurements are kept.
    """
    report = progress or (lambda line: None)
    spent_s = 3600 * (config.calibration.hours if hours is None else hours)
    if not spent_s > 0:
        raise UserError(f"a calibration needs hours above 0, not {hours}. Give for example --hours 2.")
    with contextlib.closing(MeasurementStore(config.store_location)) as store:
        calibration = _Calibration(config, spent_s, store, report, others or {})
        if results is not None:
            return calibration.read_offline(results)
        if config.transport == "offline":
            return calibration.write_offline()
        return calibration.measure()


class _Calibration(BoardRun):
    def __init__(
        self,
        config: DeviceConfig,
        budget_s: float,
        store: MeasurementStore,
        progress: Progress,
        others: Mapping[str, LatencyModel],
    ) -> None:
        super().__init__(config, store, progress, "session")
        self._others = others
        self.budget_s = budget_s
        self.bundled = bundled_model(config)
        self.model: LatencyModel | None = None
        self.accuracy: Accuracy | None = None
        self._pool: BoardPool | None = None

    @property
    def left_s(self) -> float:
        return self.budget_s - self.elapsed_s

    @property
    def pool(self) -> BoardPool:
        if self._pool is None:
            calibration, device = self.config.calibration, self.config.device
            space = open_space(self.config.space)
            profile = get_profile(device.profile_name)
            known = sum(job.kind == NETWORK for job in self.session.jobs().values())
            self._pool = BoardPool(
                space,
                calibration.num_classes,
                profile,
                runtime=device.runtime,
                seed=calibration.seed,
                networks=min(MOST_NETWORKS, known + FEWEST_NETWORKS + round(NETWORKS_PER_S * self.budget_s)),
            )
        return self._pool

    def measure(self) -> BoardCalibrationReport:
        self.connect(f"{self.config.device.name} on {{place}}, {clock_text(self.budget_s)} to spend")
        results = self.take_in()
        last = 0
        while True:
            batch = self.session.open_batch(results)
            if batch is None or batch.number == last:  # the rest of a batch that has just run failed, or the time is up
                self._fit(results)
                if self._enough(results):
                    why = "the accuracy asked for is reached" if self._accurate() else "enough networks are measured"
                    break
                if self.left_s <= 0 and self._has_model():
                    why = "the time is spent"
                    break
                batch = self._order(results)
                if batch is None:
                    why = "nothing is left that could be measured in the time"
                    break
            last = batch.number
            results = self.run_batch(batch, deadline=self.started + self.budget_s, enough=self._has_model)
        return self._report(results, why)

    def write_offline(self) -> BoardCalibrationReport:
        results = self.take_in()
        waiting = self.session.open_batch(results)
        back = results.done | {failure.job_id for failure in results.failures}
        if waiting is not None and any(job.id in back for job in waiting.jobs):
            waiting = None  # transferred back; jobs without a result may be planned again
        self._fit(results)
        batch = waiting or self._order(results, whole=True)
        if batch is None:
            return self._report(results, "nothing is left to measure")
        target = self.config.calibration.output_dir / f"kit-{batch.number:04d}"
        if waiting is None or not target.is_dir():
            kit = self.session.kit_folder(batch.number)
            if not kit.is_dir():
                raise UserError(
                    f"the kit {target} was ordered before and is gone. Bring its results, or move the folder "
                    f"{self.session.folder} away to order another."
                )
            self.offline_kit(batch, target, "paretoseg calibrate DEVICE.yaml")
            self.session.drop_kits()
        return self._report(results, "the kit waits to be carried to the board", kit=target)

    def read_offline(self, path: Path) -> BoardCalibrationReport:
        results = self.import_results(path)
        self._fit(results)
        return self._report(results, "the results were read")

    def _order(self, results: BoardResults, *, whole: bool = False) -> Batch | None:
        """Plan the next batch and write its kit; None if no remaining network fits the budget."""
        self.progress("planning what to measure next")
        calibration = self.config.calibration
        jobs = self.session.jobs()
        kinds = {job.subject: job.kind for job in jobs.values()}
        settled = self.settled(results)
        suggestions = self.pool.networks()
        if calibration.chains and builds_engines(self.config):
            suggestions += self.pool.chains()
        open_ones = [item for item in suggestions if item.key not in settled]
        cost, measure_s = job_cost(self.config, jobs, results)
        seconds = [cost.seconds(item.kernels) + measure_s for item in open_ones]
        spent = {NETWORK: 0.0, KERNELS: 0.0}
        for job_id, (wall_s, _) in results.seconds.items():
            spent[jobs[job_id].kind] += wall_s
        networks = sum(kinds[item.subject] == NETWORK for item in results.measurements)
        planned_s = min(max(self.budget_s * BATCH_SHARE, SHORTEST_BATCH_S), LONGEST_BATCH_S)
        budget_s = max(0.0, self.left_s if whole else min(planned_s, self.left_s))
        most = len(open_ones) if whole else max(MIN_MEASUREMENTS, min(MOST_JOBS, calibration.max_networks - networks))
        if not whole and self._has_model() and min(seconds, default=0.0) > self.left_s:
            return None
        chosen = choose_batch(
            open_ones,
            seconds,
            budget_s,
            most=most,
            least=max(1, MIN_MEASUREMENTS - len(results.measurements) + whole),  # an offline kit has one spare network
            model=self.model or self.bundled,
            network_s=spent[NETWORK],
            chain_s=spent[KERNELS],
        )
        picked = [(open_ones[index], seconds[index]) for index in chosen]
        return self._write(picked) if picked else None

    def _write(self, picked: list[tuple[Suggestion, float]]) -> Batch | None:
        number = self.session.next_number
        planned = {item.key: seconds for item, seconds in picked}
        kit = self.session.kit_folder(number)
        jobs = write_kit(kit, self.config, self.pool, [item for item, _ in picked], number=number)
        if not jobs:
            return None
        batch = self.session.add_batch(jobs, [planned[job.subject] for job in jobs])
        counts = {kind: sum(job.kind == kind for job in jobs) for kind in (NETWORK, KERNELS)}
        parts = [
            f"{counts[kind]} {noun}{'' if counts[kind] == 1 else 's'}"
            for kind, noun in ((NETWORK, "network"), (KERNELS, "chain"))
            if counts[kind]
        ]
        self.progress(f"batch {number}: {' and '.join(parts)}, about {clock_text(sum(batch.seconds))}")
        return batch

    def describe(self, subject: str) -> str:
        return self.pool.describe(subject)

    def clock(self) -> str:
        return f"{clock_text(self.elapsed_s)} of {clock_text(self.budget_s)}"

    def _has_model(self) -> bool:
        """Return True if enough networks are measured under the latest fingerprint to fit a model."""
        results = self.session.results()
        if not results.measurements:
            return False
        newest = results.measurements[-1].fingerprint_id
        same = {item.subject for item in results.measurements if item.fingerprint_id == newest}
        return len(same) >= MIN_MEASUREMENTS

    def _fit(self, results: BoardResults) -> None:
        if not self._has_model():
            return
        fingerprint = results.measurements[-1].fingerprint
        self.model = fit_board_model(self.config, self.store, fingerprint, self._others, self.progress)
        networks = [item.kernels for item in self.pool.networks()[:ACCURACY_NETWORKS]]
        self.accuracy = accuracy_of(self.model, networks)
        self.progress(
            f"[{self.clock()}] model of {self.accuracy.networks}: error {self.accuracy.error_rel:.1%}, "
            f"interval ±{self.accuracy.interval_rel:.0%}"
        )

    def _fit_costs(self) -> None:
        """Fit models of energy and peak memory, where the board measures them; once, at the end."""
        if self.model is None:
            return
        device, fingerprint = self.config.device, self.model.fingerprint
        everything = self.store.all(device.name, fingerprint, precision=device.precision)
        times = self.model.fit_result.prior
        for path in fit_cost_models(
            everything, self.config.model_path, device=device.name, fingerprint=fingerprint, times=times
        ):
            self.progress(f"model: {path}")

    def _accurate(self) -> bool:
        goal = self.config.calibration
        return self.accuracy is not None and self.accuracy.reached(goal.stop_error_rel, goal.stop_interval_rel)

    def _enough(self, results: BoardResults) -> bool:
        return self._accurate() or len(results.measurements) >= self.config.calibration.max_networks

    def _report(self, results: BoardResults, why: str, *, kit: Path | None = None) -> BoardCalibrationReport:
        model = self.model
        if model is None and kit is None:
            least = MIN_MEASUREMENTS
            raise UserError(
                f"{len(results.measurements)} networks of {self.config.device.name} are measured, a model needs {least}"
                + (f" of the same set-up ({_reasons(results)})" if _reasons(results) else "")
                + ". They are kept: run the same command again with more hours."
            )
        self._fit_costs()
        quality = model.quality if model is not None else None
        return BoardCalibrationReport(
            device=self.config.device.name,
            precision=self.config.device.precision,
            fingerprint=dict(model.fingerprint) if model is not None else {},
            model_path=self.config.model_path if model is not None else None,
            store=self.store.name,
            kit=kit,
            why=why,
            fresh=self.fresh,
            measured=len(results.measurements),
            networks=quality.networks if quality is not None else 0,
            failed=tuple(f"{failure.subject}: {failure.reason}" for failure in results.failures),
            refused=results.refused,
            skipped=() if self._pool is None else tuple(self._pool.skipped.values()),
            damaged=results.damaged,
            noisy=sum(item.noisy for item in results.measurements),
            drops=self.lost_connections,
            seconds=self.elapsed_s,
            build_s=sum(build_s for _, build_s in results.seconds.values()),
            loo_median_error_rel=quality.median_error_rel if quality is not None else None,
            loo_within10=quality.within10 if quality is not None else None,
            coverage=quality.coverage if quality is not None else None,
            interval_rel=self.accuracy.interval_rel if self.accuracy is not None else None,
            started_from_bundled=model is not None and model.fit_result.prior.prior_type == NanoPrior.prior_type,
        )


def _reasons(results: BoardResults) -> str:
    reasons = list(dict.fromkeys([*(failure.reason for failure in results.failures), *results.refused]))
    return "; ".join(reasons[:2])


__all__ = ["BoardCalibrationReport", "calibrate_board"]
