"""The end of a study that runs elsewhere: of its job by the job's id, or of its driver on this machine, and of its lease."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import optuna

from search_spaces._common.errors import UserError
from trial_runner.cluster.batch_systems import BATCH_SYSTEMS, BatchSystem, CommandFailed
from trial_runner.config.study import StudyConfig
from trial_runner.stopping import check
from trial_runner.study.job import job_of, read_job
from trial_runner.study.lease_holder import free_lease, lease_holder
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.study.storage import StudyNotFoundError

_ORDERLY_S = 90.0
_CANCELLED_S = 60.0
_POLL_S = 0.5


def stop(config: StudyConfig, say: Callable[[str], None]) -> bool:
    """End the study's job, or its driver on this machine, and free its lease; return False where nothing ran.

    The study's own script gets SIGTERM, so that trials are handed back with their checkpoints; the job is cancelled by its id only
    where that does not end it in time.

    Raises:
        UserError: the database cannot be read, the driver runs on another machine without a job, or it does not end.
    """
    try:
        study: optuna.Study | None = open_configured(config)
    except StudyNotFoundError:  # its job has not begun
        study = None
    job = read_job(StudyPaths(config.study.output_dir).job)
    job = job or (job_of(study) if study is not None else None)
    if job is not None and job.exit_status is None:
        system = BATCH_SYSTEMS[job.system]
        state = system.state(job.job_id)
        if state is not None and state.phase != "ended":
            say(f"ending job {job.job_id}, which is {state.word}")
            _end_job(system, job.job_id, pending=state.phase == "pending")
            _free(study, say)
            return True
    return _stop_driver(study, say)


def _end_job(system: BatchSystem, job_id: str, *, pending: bool) -> None:
    if not pending:
        try:
            system.ask_to_end(job_id)
        except CommandFailed:  # it ended just now, or takes no signals: it is cancelled below if it is still there
            pending = True
    if not pending and _ended(system, job_id, _ORDERLY_S):
        return
    try:
        system.cancel(job_id)
    except CommandFailed:
        if not _ended(system, job_id, _POLL_S):
            raise
    if not _ended(system, job_id, _CANCELLED_S):
        raise UserError(
            f"job {job_id} was cancelled, but its queue still shows it. Look again with `paretoseg status`."
        )


def _ended(system: BatchSystem, job_id: str, patience_s: float) -> bool:
    return _wait(lambda: (state := system.state(job_id)) is None or state.phase == "ended", patience_s)


def _wait(condition: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        check()
        time.sleep(_POLL_S)
    return True


def _stop_driver(study: optuna.Study | None, say: Callable[[str], None]) -> bool:
    holder = lease_holder(study) if study is not None else None
    if study is None or holder is None:
        return False
    if holder.host != socket.gethostname():
        if not holder.alive:
            _free(study, say)
            return True
        raise UserError(
            f"the study is driven by process {holder.pid} on {holder.host}, outside of a job. "
            f"End it there: kill {holder.pid}. A driver that has died frees the study by itself."
        )
    if holder.is_process_here:
        say(f"ending process {holder.pid}")
        os.kill(holder.pid, signal.SIGTERM)
        if not _wait(lambda: not holder.is_process_here, _ORDERLY_S):
            raise UserError(
                f"process {holder.pid} has not ended after {_ORDERLY_S:.0f} s. Look at what it does, and try again."
            )
    _free(study, say)
    return True


def _free(study: optuna.Study | None, say: Callable[[str], None]) -> None:
    """Free the lease of a driver that has ended; it has done so itself unless it was killed."""
    if study is not None and lease_holder(study) is not None:
        free_lease(study)
        say("the driver had not given the study back; it is free now")
