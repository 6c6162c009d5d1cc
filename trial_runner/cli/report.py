"""`paretoseg report`: write a study's HTML report."""

from __future__ import annotations

import argparse

from trial_runner.cli.console import say
from trial_runner.cli.options import add_study, study_config
from trial_runner.study.paths import StudyPaths

HELP = "Write the HTML report of a study."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.front.report import write_study_report
    from trial_runner.study.objectives import open_configured

    config = study_config(arguments)
    study = open_configured(config)
    say(write_study_report(config, study, StudyPaths(config.study.output_dir)).as_uri())
    return 0
