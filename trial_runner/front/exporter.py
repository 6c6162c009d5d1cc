"""Export of new members of the front during the search."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna

from exports import ParityError, mark_superseded
from objectives.pareto import ParetoFront, dominating, pareto_front
from objectives.trial_record import TrialRecord, estimate_facts, read_study, store_later_facts
from search_spaces._common.errors import UserError
from trial_runner.config.load import dump_config
from trial_runner.config.study import StudyConfig
from trial_runner.front.export_job import ExportOrder, export_trial, init_worker
from trial_runner.front.table import target_facts
from trial_runner.search.final_training import recorded_checkpoint, spec_of
from trial_runner.study.objectives import stored_objectives
from trial_runner.study.paths import StudyPaths
from trial_runner.study_data import require_same_data, survey_data

logger = logging.getLogger("paretoseg")

_ROUNDS = 4


def export_order(
    config: StudyConfig, paths: StudyPaths, record: TrialRecord, folder: Path | None = None
) -> ExportOrder:
    """Return the export order of a complete trial. Raises ValueError for an incomplete one."""
    if record.candidate is None or record.score is None:
        raise ValueError(f"trial {record.number} has no candidate or no score")
    facts: dict[str, Any] = {
        "study": config.study.name,
        "trial": record.number,
        "val_miou": record.val_miou,
        **estimate_facts(record),
        "device": config.device.name,
        "score": record.score.to_dict(),
        "costs": {name: cost.to_dict() for name, cost in record.costs.items()},
    }
    if config.targets:
        facts["targets"] = {name: target_facts(record, name) for name in config.target_names[1:]}
    spec = replace(spec_of(config, paths, record), recorded=recorded_checkpoint(record))
    measured = () if record.measurement is None else (record.measurement.to_dict(kernel_shares=True),)
    return ExportOrder(spec, folder or paths.bundle(record.number), facts, dump_config(config), measured)


def find_trial(records: Sequence[TrialRecord], number: int) -> TrialRecord:
    """Return the trial of that number. Raises UserError where the study has none."""
    for record in records:
        if record.number == number:
            return record
    raise UserError(f"the study has no trial {number}; it has {len(records)}, counted from 0.")


def complete_trial(
    config: StudyConfig, study: optuna.Study, records: Sequence[TrialRecord], number: int
) -> TrialRecord:
    """Return a trial that was trained to the end on data that have not changed since.

    Raises:
        UserError: there is none of that number, it was not trained to the end, or the data changed.
    """
    record = find_trial(records, number)
    _require_complete(record)
    data = survey_data(config)
    require_same_data(study, StudyPaths(config.study.output_dir), data.info, data.surveys)
    return record


def _require_complete(record: TrialRecord) -> None:
    if not record.complete:
        state = record.outcome or record.state
        raise UserError(f"trial {record.number} was not trained to the end ({state}). Choose one of `paretoseg front`.")


def export_now(config: StudyConfig, study: optuna.Study, record: TrialRecord, folder: Path | None = None) -> Path:
    """Export a trial in this process; return the bundle's folder.

    Args:
        record: a trial that was trained to the end.
        folder: of the bundle; by default the study's, which is noted at the trial.

    Raises:
        UserError: the trial was not trained to the end, its checkpoint is gone, the data changed since it was trained, or the ONNX
            file does not agree with torch.
    """
    _require_complete(record)
    paths = StudyPaths(config.study.output_dir)
    data = survey_data(config)
    require_same_data(study, paths, data.info, data.surveys)
    try:
        bundle = export_trial(export_order(config, paths, record, folder))
    except ParityError as error:
        store_later_facts(study, record.number, export_error=str(error), parity_failed=True)
        raise
    if folder is None:
        left = None if record.superseded is None else False  # the next launch marks the new bundle again
        store_later_facts(study, record.number, bundle=paths.relative(bundle), export_error=None, superseded=left)
    return bundle


class FrontExporter:
    """Exports each new member of the front in a worker process, so that neither the driver nor a training waits.

    A failed export is stored with its trial and logged, and retried by the next launch; it never ends the search. The bundle of a
    network that leaves the front is marked as superseded and kept; where the network is a member again, the mark goes.
    """

    def __init__(self, config: StudyConfig, study: optuna.Study, paths: StudyPaths, *, inline: bool = False) -> None:
        self._config, self._study, self._paths = config, study, paths
        self._pool: ProcessPoolExecutor | None = None
        self._inline = inline
        self._open: dict[int, Future[Path]] = {}
        self._failed: set[int] = set()

    def consider(self) -> None:
        """Submit exports of members of the front without a bundle; collect finished ones, and mark bundles that were superseded."""
        self._collect(wait=False)
        objectives = stored_objectives(self._config, self._study)
        records = read_study(self._study, self._paths.root)
        front = pareto_front(records, objectives=objectives)
        for record in records:
            if record.bundle is not None and record.number not in self._open and not record.unfit:
                self._note_membership(record, front)
        for record in front.records:
            missing = record.bundle is None or not Path(record.bundle).is_dir()
            if missing and record.number not in self._failed and record.number not in self._open:
                self._order(record)

    def drain(self) -> None:
        """Wait for all exports. Another round exports what a dead worker process left, and members in place of networks that failed."""
        for _ in range(_ROUNDS):
            failed = len(self._failed)
            self.consider()
            waited = bool(self._open)
            self._collect(wait=True)
            if not waited and len(self._failed) == failed:
                return

    def close(self) -> None:
        """Cancel open exports; the next launch submits them again."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        self._open.clear()

    def _note_membership(self, record: TrialRecord, front: ParetoFront) -> None:
        """Store that an exported trial joined or left the front, and mark its bundle; one exported by hand is no member."""
        left = record not in front
        if record.superseded == left or (left and record.superseded is None):
            return
        folder = Path(str(record.bundle))
        if (left or record.superseded) and folder.is_dir():
            try:
                mark_superseded(folder, dominating(record, front) if left else None)
            except UserError as error:
                logger.warning("the bundle of trial %d could not be marked: %s", record.number, error)
                return
        store_later_facts(self._study, record.number, superseded=left)

    def _order(self, record: TrialRecord) -> None:
        order = export_order(self._config, self._paths, record)
        if self._inline:
            future: Future[Path] = Future()
            try:
                future.set_result(export_trial(order))
            except UserError as error:
                future.set_exception(error)
            self._open[record.number] = future
            self._collect(wait=True)
            return
        try:
            if self._pool is None:
                self._pool = helper_pool()
            with _without_main_module():  # the first order starts the helper process
                self._open[record.number] = self._pool.submit(export_trial, order)
        except BrokenProcessPool:
            self._pool = None  # ordered again at the next look
        except OSError as error:  # no semaphores, where /dev/shm is full or missing
            logger.warning("no helper process can be started (%s): exports run in the driver itself", error.strerror)
            self._pool, self._inline = None, True
            self._order(record)

    def _collect(self, *, wait: bool) -> None:
        for number, future in list(self._open.items()):
            if not wait and not future.done():
                continue
            error = future.exception()
            if error is None:
                bundle = self._paths.relative(future.result())
                store_later_facts(self._study, number, bundle=bundle, export_error=None, superseded=False)
            elif isinstance(error, BrokenProcessPool):
                logger.warning("the helper process died while it exported trial %d; it is exported again", number)
                self._pool = None
            else:
                reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                logger.warning("trial %d could not be exported: %s", number, reason)
                unfit = isinstance(error, ParityError)
                store_later_facts(self._study, number, export_error=reason, parity_failed=unfit)
                self._failed.add(number)
            del self._open[number]


def helper_pool() -> ProcessPoolExecutor:
    """Return a pool of one process, started by its first task, that ends with this one, however this one ends."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=init_worker, initargs=(os.getpid(),))


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Keep a spawned process from running the user's script again, as it does with one that has no ``if __name__ == "__main__"``."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
