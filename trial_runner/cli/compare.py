"""`paretoseg compare`: fronts and hypervolumes of several studies."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from trial_runner.cli.console import console, say_json

HELP = "Compare the fronts of studies, and how their hypervolumes grew."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY.yaml", help="the studies' YAML files")
    parser.add_argument("--json", action="store_true", help="an object instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.trial_record import read_study
    from search_spaces._common.errors import UserError
    from trial_runner.config.load import load_config
    from trial_runner.front.comparison import (
        ComparedStudy,
        compare_studies,
        comparison_json,
        print_comparison,
        settings_of,
    )
    from trial_runner.study.objectives import open_configured, stored_objectives

    if len(arguments.studies) < 2:
        raise UserError(
            f"a comparison takes two studies at least, but only {arguments.studies[0]} is given. Name another one."
        )
    configs = [load_config(path) for path in arguments.studies]
    names = Counter(config.study.name for config in configs)
    studies = []
    for path, config in zip(arguments.studies, configs, strict=True):
        study = open_configured(config)
        spans = {
            trial.number: (trial.datetime_start, trial.datetime_complete)
            for trial in study.get_trials(deepcopy=False)
            if trial.datetime_start is not None and trial.datetime_complete is not None
        }
        name = config.study.name if names[config.study.name] == 1 else str(path)
        records = read_study(study, config.study.output_dir)
        objectives = stored_objectives(config, study)
        studies.append(ComparedStudy(name, records, spans, objectives, settings_of(config), config.study.seed))
    comparison = compare_studies(studies)
    if arguments.json:
        say_json(comparison_json(comparison))
    else:
        print_comparison(comparison, console())
    return 0
