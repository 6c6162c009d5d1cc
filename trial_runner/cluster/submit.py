"""Submission of a study as a job, and following it until its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path, write_error
from trial_runner.cluster.batch_systems import BATCH_SYSTEMS, QueueState
from trial_runner.cluster.job_script import job_script
from trial_runner.config.study import StudyConfig
from trial_runner.stopping import check
from trial_runner.study.job import Job, read_job, write_job
from trial_runner.study.paths import StudyPaths

_POLL_S = 2.0
_GONE_S = 20.0


def submit(config: StudyConfig, study: Path, overrides: Sequence[str]) -> Job:
    """Write the job script into the study's folder, submit it, and store the job's id beside it.

    Raises:
        UserError: the script cannot be made or written, the study's last job has not ended, or the batch system refuses the job.
    """
    paths, system = StudyPaths(config.study.output_dir), BATCH_SYSTEMS[config.cluster.kind]
    text = job_script(config, study, overrides)
    earlier = read_job(paths.job)
    if earlier is not None and earlier.exit_status is None:
        state = BATCH_SYSTEMS[earlier.system].state(earlier.job_id)
        if state is not None and state.phase != "ended":
            raise UserError(
                f"job {earlier.job_id} of this study is {state.word}. Follow it with `paretoseg status`, or end it with `paretoseg stop`."
            )
    try:
        paths.logs.mkdir(parents=True, exist_ok=True)
        with atomic_path(paths.job_script) as temporary:
            temporary.write_text(text)
        paths.job_script.chmod(0o700)
    except OSError as error:
        raise write_error(paths.job_script, error) from error
    job = Job(system.name, system.submit(paths.job_script))
    write_job(paths.job, job)
    return job


def log_of(paths: StudyPaths, job_id: str) -> Path:
    """Log of a job's launch."""
    return paths.logs / f"job-{job_id.partition('.')[0]}.log"


def follow(config: StudyConfig, job: Job, say: Callable[[str], None]) -> int:
    """Print a job's queue states and its log until it has ended; return the exit status of the launch, 1 where it left none.

    Raises:
        KeyboardInterrupt: on a stop signal; the job goes on.
    """
    paths, position, told, gone = StudyPaths(config.study.output_dir), 0, "", None
    while True:
        check()
        now = read_job(paths.job) or job
        if now.job_id != job.job_id:  # it was submitted again at its time limit
            say(f"job {job.job_id} goes on as job {now.job_id}")
            position, gone = 0, None
        job = now
        state = BATCH_SYSTEMS[job.system].state(job.job_id)
        words = _words(state)
        if words != told and words:
            say(f"job {job.job_id}: {words}")
        told = words
        position = _print_new(log_of(paths, job.job_id), position, say)
        if job.exit_status is not None:
            return job.exit_status
        if state is None or state.phase == "ended":
            gone = gone or time.monotonic()
            if time.monotonic() - gone > _GONE_S:  # the file of a node's disk may come later than the end of the job
                return 1
        else:
            gone = None
        time.sleep(_POLL_S)


def _words(state: QueueState | None) -> str:
    if state is None:
        return ""
    return state.word + (f" on {state.nodes}" if state.nodes else "") + (f" ({state.reason})" if state.reason else "")


def _print_new(log: Path, position: int, say: Callable[[str], None]) -> int:
    """Print the complete lines of a log from a position on; return the position after them."""
    try:
        with log.open("rb") as file:
            file.seek(position)
            new = file.read()
    except OSError:
        return position
    whole = new[: new.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        say(line)
    return position + len(whole)
