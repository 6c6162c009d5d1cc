"""`paretoseg front`: the Pareto front as table or JSON."""

from __future__ import annotations

import argparse

from trial_runner.cli.console import console, say_json
from trial_runner.cli.options import add_study, study_config

HELP = "Print the Pareto front of a study."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.trial_record import read_study
    from trial_runner.front.table import front_records, front_rows, print_front
    from trial_runner.study.objectives import open_configured, stored_objectives

    config = study_config(arguments)
    study = open_configured(config)
    objectives = stored_objectives(config, study)
    members = front_records(read_study(study, config.study.output_dir), config.device.latency_budget_ms, objectives)
    if arguments.json:
        say_json(front_rows(members, objectives))
    else:
        print_front(members, config.device.latency_budget_ms, console(), objectives)
    return 0
