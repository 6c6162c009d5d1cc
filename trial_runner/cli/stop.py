"""`paretoseg stop`: end a study that runs as a job, or in another terminal of this machine."""

from __future__ import annotations

import argparse

from trial_runner.cli.console import say
from trial_runner.cli.options import add_study, study_config

HELP = "End a running study: its job by the job's id, or its process on this machine. Launch it again to go on."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.cluster.stop import stop

    config = study_config(arguments)
    say("the study is stopped" if stop(config, say) else "the study does not run")
    return 0
