"""`paretoseg solution`: write the LPCVC 2023 submission of a trial."""

from __future__ import annotations

import argparse
from pathlib import Path

from trial_runner.cli.console import say
from trial_runner.cli.options import add_study, study_config
from trial_runner.study.paths import StudyPaths

HELP = "Write a trial with 14 classes as solution.pyz, the submission to the LPCVC 2023."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument("--trial", type=int, required=True, help="number of the trial, trained to the end")
    parser.add_argument("--out", type=Path, help="file to write (default: solution-NNNNN.pyz in the study's folder)")
    parser.add_argument("--batch", type=int, default=1, metavar="IMAGES", help="images per run (default: 1)")
    parser.add_argument(
        "--least-region",
        type=int,
        metavar="PIXELS",
        help="remove predicted regions with fewer pixels of the 512 x 512 map; 0: none (default: the best on the validation images)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.trial_record import read_study
    from trial_runner.front.exporter import complete_trial, export_order
    from trial_runner.front.solution import solution_of_trial
    from trial_runner.study.objectives import open_configured

    config = study_config(arguments)
    paths = StudyPaths(config.study.output_dir)
    study = open_configured(config)
    record = complete_trial(config, study, read_study(study, config.study.output_dir), arguments.trial)
    solution = solution_of_trial(
        export_order(config, paths, record).spec,
        arguments.out or config.study.output_dir / f"solution-{record.number:05d}.pyz",
        batch=arguments.batch,
        least_region_pixels=arguments.least_region,
    )
    for pixels, dice in solution.dice.items():
        chosen = ", chosen" if pixels == solution.least_region_pixels else ""
        say(f"regions of at least {pixels} pixels: Dice {dice:.4f}{chosen}")
    say(f"{solution.path}")
    say(f"on the board, once: python3.6 {solution.path.name} --build   (builds the TensorRT plan and packs it in)")
    return 0
