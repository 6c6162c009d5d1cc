"""State of a study as its database and its job's queue tell it, from any machine that reads both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from objectives.objective import Objective
from objectives.trial_record import Outcome, State, TrialRecord, read_study
from search_spaces._common.errors import UserError
from trial_runner.cluster.batch_systems import BATCH_SYSTEMS, QueueState
from trial_runner.config.study import StudyConfig
from trial_runner.front.table import front_records
from trial_runner.study.job import Job, job_of, read_job
from trial_runner.study.lease_holder import LeaseHolder, lease_holder
from trial_runner.study.objectives import open_configured, stored_objectives
from trial_runner.study.paths import StudyPaths
from trial_runner.study.storage import StudyNotFoundError

_DONE = (Outcome.FINISHED, Outcome.STOPPED, Outcome.FAILED)


@dataclass(frozen=True)
class StudyStatus:
    """State of a study.

    Attributes:
        job: its last job; None where it has run without one.
        queue: the job in its queue; None where the queue does not know it, or is not asked.
        queue_error: why the queue could not be asked, or None.
        holder: driver that holds the lease; None where no launch runs it.
        wanted: trials of the search that were ordered.
        records: all trials.
        front: members of the front within the budget.
        objectives: the study's.
    """

    job: Job | None
    queue: QueueState | None
    queue_error: str | None
    holder: LeaseHolder | None
    wanted: int
    records: Sequence[TrialRecord]
    front: Sequence[TrialRecord]
    objectives: Sequence[Objective]

    @property
    def running(self) -> list[TrialRecord]:
        """Trials on a worker."""
        return [record for record in self.records if record.state == State.RUNNING]

    @property
    def counts(self) -> dict[str, int]:
        """Trials by outcome, then by state for those without one, in words."""
        words = Counter(str(record.outcome or record.state.lower()) for record in self.records)
        return dict(sorted(words.items()))

    @property
    def done(self) -> int:
        """Trials of the search that have ended and count."""
        return sum(record.outcome in _DONE and record.parent_trial is None for record in self.records)

    @property
    def left_s(self) -> float | None:
        """Estimated seconds to the end of the search, from the mean duration of ended trials; None without one, or where none runs."""
        lasted = [r.duration_s for r in self.records if r.outcome in _DONE and r.duration_s is not None]
        running = len(self.running)
        if not lasted or not running:
            return None
        open_trials = max(self.wanted - self.done, 0)
        return mean(lasted) * max(open_trials - running / 2, running / 2) / running


def study_status(config: StudyConfig) -> StudyStatus:
    """Read the state of a study from its database, its folder and the queue of its job.

    Raises:
        UserError: the database cannot be read, or there is neither a study nor a job of it.
    """
    paths = StudyPaths(config.study.output_dir)
    job = read_job(paths.job)
    try:
        study = open_configured(config)
    except StudyNotFoundError:
        if job is None:
            raise
        return StudyStatus(job, *_queue(job), None, config.search.trials, [], [], [])
    objectives = stored_objectives(config, study)
    records = read_study(study, config.study.output_dir)
    job = job or job_of(study)
    front = front_records(records, config.device.latency_budget_ms, objectives)
    holder = lease_holder(study)
    return StudyStatus(job, *_queue(job), holder, config.search.trials, records, front, objectives)


def _queue(job: Job | None) -> tuple[QueueState | None, str | None]:
    if job is None or job.exit_status is not None:
        return None, None
    try:
        return BATCH_SYSTEMS[job.system].state(job.job_id), None
    except UserError as error:
        return None, str(error)


def status_lines(config: StudyConfig, status: StudyStatus) -> list[str]:
    """Return the state of a study in words, a line each."""
    lines = [f"study {config.study.name}: {status.done} of {status.wanted} trials done"]
    if status.counts:
        lines[0] += " (" + ", ".join(f"{count} {word}" for word, count in status.counts.items()) + ")"
    if status.job is not None:
        lines.append(f"job {status.job.job_id} ({status.job.system}): {_job_words(status)}")
    holder = status.holder
    if holder is None:
        lines.append("driver: none")
    else:
        state = "" if holder.alive else "; its lease has expired: it died or lost the database"
        lines.append(f"driver: process {holder.pid} on {holder.host}{state}")
    for record in status.running:
        reading = "no reading yet"
        if record.curve:
            epoch, miou = record.curve[-1]
            reading = f"mIoU {miou:.3f} after epoch {epoch} of {record.parent_epochs or config.training.epochs}"
        node = record.node or (holder.host if holder else None)
        lines.append(f"trial {record.number} runs" + (f" on {node}" if node else "") + f": {reading}")
    if status.front:
        best = max(record.score.val_miou for record in status.front if record.score)
        fastest = min(record.latency_ms for record in status.front if record.latency_ms is not None)
        lines.append(f"front: {len(status.front)} networks, mIoU up to {best:.3f}, latency from {fastest:.3g} ms")
    else:
        lines.append("front: empty")
    if status.left_s is not None:
        lines.append(f"about {duration(status.left_s)} to the end of the search at this rate")
    return lines


def _job_words(status: StudyStatus) -> str:
    job, queue = status.job, status.queue
    if job is not None and job.exit_status is not None:
        return f"ended with exit status {job.exit_status}"
    if status.queue_error is not None:
        return f"its queue cannot be asked: {status.queue_error}"
    if queue is None:
        return "no longer in the queue"
    again = f", {job.restarts} times restarted" if job is not None and job.restarts else ""
    where = f" on {queue.nodes}" if queue.nodes else ""
    return f"{queue.word}{where}" + (f" ({queue.reason})" if queue.reason else "") + again


def duration(seconds: float) -> str:
    """Return a duration in words: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
