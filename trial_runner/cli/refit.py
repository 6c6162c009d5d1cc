"""`paretoseg refit`: train a candidate again on several seeds."""

from __future__ import annotations

import argparse

from trial_runner.cli.console import print_error, say, say_json
from trial_runner.cli.options import add_study, study_config
from trial_runner.study.paths import StudyPaths

HELP = "Train one trial's candidate again on several seeds, and report mean and spread."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument("--trial", type=int, required=True, metavar="N")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="of each training (default: the study's)")
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.trial_record import read_study
    from trial_runner.front.exporter import find_trial
    from trial_runner.refit import refit as run_refit
    from trial_runner.study.objectives import open_configured
    from trial_runner.study_data import require_same_data, survey_data

    config = study_config(arguments)
    study = open_configured(config)
    record = find_trial(read_study(study), arguments.trial)
    paths = StudyPaths(config.study.output_dir)
    data = survey_data(config)
    require_same_data(study, paths, data.info, data.surveys)
    result = run_refit(
        config,
        paths,
        record,
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        say=print_error if arguments.json else say,
    )
    if arguments.json:
        say_json(result.to_dict())
    else:
        say(result.summary)
    return 0
