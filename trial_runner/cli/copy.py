"""`paretoseg copy`: a copy of a study under another name, with its files."""

from __future__ import annotations

import argparse
import shlex

from trial_runner.cli.console import say
from trial_runner.cli.options import add_study, study_config

HELP = "Copy a study under another name, with its files, in the same database."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument(
        "name", metavar="NAME", help="name of the copy; its files go to a folder of this name beside the study's"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.study.copies import copy_study
    from trial_runner.study.objectives import open_configured

    config = study_config(arguments)
    folder = copy_study(config, open_configured(config), arguments.name)
    say(f"copied to the study {arguments.name}, files in {folder}")
    keys = f"--set study.name={shlex.quote(arguments.name)} --set study.output_dir={shlex.quote(str(folder))}"
    say(f"use it with: paretoseg launch {shlex.quote(str(arguments.study))} {keys}")
    return 0
