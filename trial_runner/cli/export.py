"""`paretoseg export`: write bundles."""

from __future__ import annotations

import argparse
from pathlib import Path

from search_spaces._common.errors import UserError
from trial_runner.cli.console import say
from trial_runner.cli.options import add_study, study_config
from trial_runner.study.paths import StudyPaths

HELP = "Export the front of a study, or one trial, as bundles."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument("--trial", type=int, help="this trial only, on the front or not")
    parser.add_argument("--out", type=Path, help="folder for the bundles (default: the study's)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.trial_record import read_study
    from trial_runner.front.exporter import export_now, find_trial
    from trial_runner.front.table import front_records
    from trial_runner.study.objectives import open_configured, stored_objectives

    config = study_config(arguments)
    paths = StudyPaths(config.study.output_dir)
    study = open_configured(config)
    records = read_study(study, config.study.output_dir)
    if arguments.trial is None:
        chosen = front_records(records, config.device.latency_budget_ms, stored_objectives(config, study))
        if not chosen:
            raise UserError("no finished trial keeps the budget: there is nothing to export. Launch the study first.")
    else:
        chosen = [find_trial(records, arguments.trial)]
    for record in chosen:
        folder = arguments.out / paths.bundle(record.number).name if arguments.out else None
        say(str(export_now(config, study, record, folder)))
    return 0
