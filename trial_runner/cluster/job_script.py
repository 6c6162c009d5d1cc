"""The script of a study's job, made from a template."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from search_spaces._common.errors import UserError
from search_spaces._common.untrusted import read_bounded
from search_spaces._common.urls import redact_url
from trial_runner.cluster.batch_systems import BATCH_SYSTEMS
from trial_runner.config.study import StudyConfig
from trial_runner.study.paths import StudyPaths

_MOST_MB = 1
_PLACE = re.compile(r"\{\{(\w*)\}\}")


def job_script(config: StudyConfig, study: Path, overrides: Sequence[str]) -> str:
    """Return the job script of a study.

    Args:
        study: the study's YAML file.
        overrides: ``section.key=value``, passed on to the launch in the job.

    Raises:
        UserError: the template cannot be read, names something unknown or does not run the study; a trial does not fit on a node;
            or an override holds a password.
    """
    _check_fit(config)
    cluster = config.cluster
    secret = [text for text in overrides if redact_url(text) != text]
    if secret:
        raise UserError(
            f"--set {redact_url(secret[0])} would write a password into the job script. "
            "Name it in the YAML as ${NAME}, an environment variable, and set that in a file that cluster.setup reads."
        )
    system = BATCH_SYSTEMS[cluster.kind]
    logs = StudyPaths(config.study.output_dir).logs
    options = [word for text in overrides for word in ("--set", text)]
    command = [sys.executable, "-m", "trial_runner.cluster.job", str(study.resolve()), *options]
    values = {
        "directives": "\n".join(system.directives(cluster, config.study.name, logs)),
        "study": config.study.name,
        "setup": "\n".join(cluster.setup),
        "command": shlex.join(command),
    }
    text = _template(cluster.template)
    named = set(_PLACE.findall(text))
    unknown = sorted(named - values.keys())
    if unknown:
        raise UserError(
            f"{cluster.template} names {{{{{unknown[0]}}}}}; a job template knows {', '.join(values)} in double braces. Correct it."
        )
    if not any("{{command}}" in line.partition("#")[0] for line in text.splitlines()):
        raise UserError(f"{cluster.template} does not run the study. Add a line with {{{{command}}}} at its end.")
    return _PLACE.sub(lambda found: values[found[1]], text)


def _template(path: Path | None) -> str:
    if path is None:
        return (files("trial_runner.cluster") / "job.sh").read_text()
    try:
        return read_bounded(path, "a job template", _MOST_MB).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read cluster.template {path}: {error}. Name a text file, or leave the key out."
        ) from error


def _check_fit(config: StudyConfig) -> None:
    cluster, compute = config.cluster, config.compute
    for kind, need, have in (
        ("cpus", compute.cpus_per_trial, cluster.cpus_per_node),
        ("gpus", 0 if compute.gpus_per_trial == "auto" else compute.gpus_per_trial, cluster.gpus_per_node),
    ):
        if have is not None and need > have:
            raise UserError(
                f"compute.{kind}_per_trial is {need:g}, but a node of the job has {have} (cluster.{kind}_per_node). "
                "Raise the latter or lower the former."
            )
