"""`paretoseg front`: the Pareto front as table or JSON."""

from __future__ import annotations

import argparse

from trial_runner.cli.console import console, say, say_json
from trial_runner.cli.options import add_study, add_target, study_config

HELP = "Print the Pareto front of a study."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    add_target(parser)
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.precision_pairs import int8_sentences
    from trial_runner.front.table import front_records, front_rows, print_front
    from trial_runner.front.targets import target_view
    from trial_runner.study.objectives import open_configured

    config = study_config(arguments)
    view = target_view(config, open_configured(config), arguments.target)
    members = front_records(view.records, view.budget_ms, view.objectives)
    if arguments.json:
        say_json(front_rows(members, view.objectives))
    else:
        print_front(members, view.budget_ms, console(), view.objectives, target=view.target)
        for sentence in int8_sentences(view.records):
            say(sentence)
        left = [str(record.number) for record in view.records if record.superseded]
        if left:
            say(f"superseded bundles, of networks that left the front: trial {', '.join(left)}")
    return 0
