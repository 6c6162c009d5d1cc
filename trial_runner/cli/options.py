"""Arguments that several commands share, and their meaning."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces._common.errors import UserError

if TYPE_CHECKING:
    from objectives.trial_record import TrialRecord
    from trial_runner.config.study import StudyConfig


def add_study(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add STUDY.yaml and ``--set``; ``study_config`` reads both."""
    parser.add_argument(
        "study", type=Path, metavar="STUDY.yaml", nargs="?" if optional else None, help="the study's YAML file"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="section.key=value",
        help="change a key of the YAML for this run",
    )


def study_config(arguments: argparse.Namespace) -> StudyConfig:
    """Read the study's YAML with its ``--set`` overrides. Raises UserError for a file or key that is wrong."""
    from trial_runner.config.load import load_config

    return load_config(arguments.study, arguments.overrides)


def find_trial(records: Sequence[TrialRecord], number: int) -> TrialRecord:
    """Return the trial of that number. Raises UserError where the study has none."""
    for record in records:
        if record.number == number:
            return record
    raise UserError(f"the study has no trial {number}; it has {len(records)}, counted from 0.")
