"""`paretoseg dashboard`: serve optuna-dashboard for a study."""

from __future__ import annotations

import argparse
import os

from trial_runner.cli.console import say
from trial_runner.cli.options import add_study, study_config

_TOKEN_VARIABLE = "PARETOSEG_DASHBOARD_TOKEN"
HELP = "Open optuna-dashboard on a study, with its exported networks."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to bind to (default: %(default)s, this machine only)"
    )
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--read-only", action="store_true", help="accept no change: nobody can rename, annotate or delete a study"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from dashboards import serve
    from dashboards.live import PATH
    from objectives.optuna_private import storage_of
    from trial_runner.front.dashboard import fill_dashboard

    config = study_config(arguments)
    study, paths = fill_dashboard(config)

    def ready(address: str) -> None:
        say(f"optuna-dashboard on {address} (Ctrl-C ends it)")
        say(f"live page: {address.replace('/dashboard?', f'{PATH}?', 1)}")

    serve(
        storage_of(study),  # its finished trials are in memory already
        paths.artifacts,
        host=arguments.host,
        port=arguments.port,
        token=os.environ.get(_TOKEN_VARIABLE),
        read_only=arguments.read_only,
        on_ready=ready,
    )
    return 0
