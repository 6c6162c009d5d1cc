"""`paretoseg trial`: everything about one trial."""

from __future__ import annotations

import argparse

from trial_runner.cli.console import say, say_json
from trial_runner.cli.options import add_study, study_config

HELP = "Show everything about one trial: parameters, curve, latency by kind of kernel, why it ended, files."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument("number", type=int, metavar="NUMBER", help="the trial's number")
    parser.add_argument(
        "--no-kernels", action="store_true", help="leave out the latency by kind of kernel, which takes a second"
    )
    parser.add_argument("--json", action="store_true", help="an object instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.trial_record import read_trial
    from search_spaces._common.errors import UserError
    from trial_runner.front.trial_details import TrialDetails, details_json, details_lines
    from trial_runner.study.objectives import CLASS_NAMES, open_configured, stored_objectives
    from trial_runner.study.paths import StudyPaths

    config = study_config(arguments)
    study = open_configured(config)
    record = read_trial(study, arguments.number, config.study.output_dir)
    if record is None:
        trials = len(study.get_trials(deepcopy=False))
        has = f"it has 0 to {trials - 1}" if trials else "it has none yet"
        raise UserError(f"the study {config.study.name} has no trial {arguments.number}; {has}.")
    class_names = tuple(study.user_attrs.get(CLASS_NAMES, ()))
    estimate, missing = None, ""
    if record.candidate is not None and not arguments.no_kernels:
        from trial_runner.front.kernel_times import estimate_today

        try:
            estimate = estimate_today(config, record, len(class_names))
        except UserError as error:
            missing = str(error)
    folder = StudyPaths(config.study.output_dir).trial(record.number)
    details = TrialDetails(
        record=record,
        objectives=stored_objectives(config, study),
        class_names=class_names,
        started=record.started_at,
        estimate_today=estimate,
        kernels_missing=missing,
        checkpoint=next((path for path in sorted(folder.glob("*.pt"))), None) if folder.is_dir() else None,
    )
    if arguments.json:
        say_json(details_json(details))
    else:
        for line in details_lines(details):
            say(line)
    return 0
