"""`paretoseg trials`: all trials of a study as table, JSON, CSV or Parquet."""

from __future__ import annotations

import argparse
from pathlib import Path

from trial_runner.cli.console import console, say, say_json
from trial_runner.cli.options import add_study, study_config

HELP = "List the trials of a study."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="STATE",
        help="only these, several with commas: finished, stopped, refused, failed, reused, running, waiting",
    )
    parser.add_argument(
        "--sort",
        default="trial",
        metavar="KEY",
        help="trial, miou, latency, measured, duration or epochs, best first (default: %(default)s)",
    )
    parser.add_argument("--reverse", action="store_true", help="worst first")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N only")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write them to a .csv or .parquet file")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.trial_record import read_study
    from search_spaces._common.errors import UserError
    from trial_runner.front.table import trial_rows
    from trial_runner.front.trial_lists import chosen, print_trials, write_trials
    from trial_runner.study.objectives import open_configured, stored_objectives

    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit is {arguments.limit}, which leaves no trial. Give a number above 0, or leave it out.")
    config = study_config(arguments)
    study = open_configured(config)
    objectives = stored_objectives(config, study)
    states = [word.strip() for text in arguments.state for word in text.split(",") if word.strip()]
    every = read_study(study, config.study.output_dir)
    records = chosen(every, states, arguments.sort, reverse=arguments.reverse)[: arguments.limit]
    if arguments.csv:
        write_trials(trial_rows(records, objectives), arguments.csv)
    if arguments.json:
        say_json(trial_rows(records, objectives))
    elif arguments.csv:
        say(f"{len(records)} trials written to {arguments.csv}")
    elif records:
        print_trials(records, console(), objectives)
        say(f"{len(records)} of {len(every)} trials")
    else:
        say(f"none of {len(every)} trials is in this state" if every else "the study has no trial yet")
    return 0
