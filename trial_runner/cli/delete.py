"""`paretoseg delete`: remove a study from its database, and its files on request."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from trial_runner.cli.console import say
from trial_runner.cli.options import add_study, study_config

if TYPE_CHECKING:
    import optuna

    from trial_runner.config.study import StudyConfig

HELP = "Delete a study from its database; --files deletes its folder as well."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument(
        "--files", action="store_true", help="also delete checkpoints, exported networks and the report"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.study.copies import delete_study, study_files
    from trial_runner.study.objectives import open_configured

    config = study_config(arguments)
    study = open_configured(config)
    if not arguments.yes and not _agreed(config, study, files=arguments.files):
        say("nothing was deleted")
        return 1
    delete_study(config, study, files=arguments.files)
    say(f"the study {config.study.name} is deleted")
    left = [] if arguments.files else study_files(config)
    if left:
        say(f"its files are still in {config.study.output_dir}")
    return 0


def _agreed(config: StudyConfig, study: optuna.Study, *, files: bool) -> bool:
    """Ask, and return True for a yes.

    Raises:
        UserError: nobody can answer.
    """
    from search_spaces._common.errors import UserError

    if not sys.stdin.isatty():
        raise UserError(
            f"deleting the study {config.study.name} cannot be undone and is asked for first, but nobody can answer here. Add --yes."
        )
    trials = len(study.get_trials(deepcopy=False))
    also = f" and the files in {config.study.output_dir}" if files else ""
    sys.stdout.write(
        f"Delete the study {config.study.name} with its {trials} trials{also}? It cannot be undone. [y/N] "
    )
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
