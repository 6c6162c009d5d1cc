"""`paretoseg status`: how far a study is, and where it runs."""

from __future__ import annotations

import argparse

from trial_runner.cli.console import say, say_json
from trial_runner.cli.options import add_study, study_config

HELP = "Print how far a study is, where its trials run, and the state of its job."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument("--json", action="store_true", help="an object instead of lines")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.cluster.status import status_lines, study_status
    from trial_runner.front.table import front_rows

    config = study_config(arguments)
    status = study_status(config)
    if not arguments.json:
        for line in status_lines(config, status):
            say(line)
        return 0
    queue, holder = status.queue, status.holder
    say_json(
        {
            "study": config.study.name,
            "wanted": status.wanted,
            "done": status.done,
            "trials": status.counts,
            "job": status.job.to_dict() | {"queue": vars(queue) if queue else None} if status.job else None,
            "driver": {"host": holder.host, "pid": holder.pid, "alive": holder.alive} if holder else None,
            "running": [
                {"trial": r.number, "node": r.node or (holder.host if holder else None), "curve": r.curve}
                for r in status.running
            ],
            "front": front_rows(status.front, status.objectives),
            "left_s": status.left_s,
        }
    )
    return 0
