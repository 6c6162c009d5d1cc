"""Arguments that several commands share, and their meaning."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add ``--target``, one of the targets of a study."""
    parser.add_argument(
        "--target", metavar="NAME", help="target of the study whose latency counts (default: the first one)"
    )


def study_config(arguments: argparse.Namespace) -> StudyConfig:
    """Read the study's YAML with its ``--set`` overrides. Raises UserError for a file or key that is wrong."""
    from trial_runner.config.load import load_config

    return load_config(arguments.study, arguments.overrides)
