"""`paretoseg export`: write bundles."""

from __future__ import annotations

import argparse
from pathlib import Path

from search_spaces._common.errors import UserError
from trial_runner.cli.console import say
from trial_runner.cli.options import add_study, find_trial, study_config
from trial_runner.study.paths import StudyPaths

HELP = "Export the front of a study, or one trial, as bundles."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument("--trial", type=int, help="this trial only, on the front or not")
    parser.add_argument("--out", type=Path, help="folder for the bundles (default: the study's)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.trial_record import read_study, store_later_facts
    from trial_runner.front.export_job import export_trial
    from trial_runner.front.exporter import export_order
    from trial_runner.front.table import front_records
    from trial_runner.study.objectives import open_configured, stored_objectives

    config = study_config(arguments)
    paths = StudyPaths(config.study.output_dir)
    study = open_configured(config)
    records = read_study(study)
    if arguments.trial is None:
        chosen = front_records(records, config.device.latency_budget_ms, stored_objectives(config, study))
        if not chosen:
            raise UserError("no finished trial keeps the budget: there is nothing to export. Launch the study first.")
    else:
        chosen = [find_trial(records, arguments.trial)]
        if not chosen[0].complete:
            state = chosen[0].outcome or chosen[0].state
            raise UserError(
                f"trial {arguments.trial} was not trained to the end ({state}). Choose one of `paretoseg front`."
            )
    for record in chosen:
        folder = arguments.out / paths.bundle(record.number).name if arguments.out else None
        bundle = export_trial(export_order(config, paths, record, folder))
        if folder is None:
            store_later_facts(study, record.number, bundle=str(bundle), export_error=None)
        say(str(bundle))
    return 0
