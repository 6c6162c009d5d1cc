"""The job of a batch system that a study runs in: in a file of the study's folder, and in its database."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna

from objectives.trial_record import store_study_attribute, study_attributes
from search_spaces._common.files import write_json

_JOB = "job"
JOB_VARIABLE = "PARETOSEG_JOB"
"""Environment variable that holds the `Job` as JSON in the driver that it runs."""


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        system: name of the batch system, ``slurm`` or ``pbs``.
        job_id: its id there.
        nodes: names of its nodes; empty until it has started.
        restarts: how often it has gone on in a new allocation.
        exit_status: of the launch, once it has ended for good; None before.
    """

    system: str
    job_id: str
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    exit_status: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "nodes": list(self.nodes)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Job:
        """Inverse of ``to_dict``; fields of later releases are left out."""
        known = {key: value[key] for key in cls.__dataclass_fields__ if key in value}
        return cls(**{**known, "nodes": tuple(known.get("nodes", ()))})


def write_job(path: Path, job: Job) -> None:
    """Store a job in the study's folder. Raises UserError where nothing can be written there."""
    write_json(path, job.to_dict())


def read_job(path: Path) -> Job | None:
    """Job that `write_job` stored; None without one, or where the file cannot be read."""
    try:
        return Job.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def note_job(study: optuna.Study) -> None:
    """Store with a study the job that this driver runs in, or that it runs in none."""
    text = os.environ.get(JOB_VARIABLE)
    job = json.loads(text) if text else None
    if study_attributes(study).get(_JOB) != job:
        store_study_attribute(study, _JOB, job)


def job_of(study: optuna.Study) -> Job | None:
    """Job in which the study's last driver ran; None where it ran in none."""
    stored = study_attributes(study).get(_JOB)
    return Job.from_dict(stored) if stored else None
