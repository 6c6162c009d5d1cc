"""`paretoseg measure`: the winners of a study on the device itself, here or on a board, whenever it is at hand."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces._common.errors import UserError
from trial_runner.cli.console import console, say
from trial_runner.cli.options import add_study, study_config
from trial_runner.study.paths import StudyPaths

if TYPE_CHECKING:
    import optuna

    from objectives.objective import Objective
    from objectives.trial_record import TrialRecord
    from trial_runner.config.study import StudyConfig


HELP = "Measure a study's front, or one trial, on the device: here, or on the board of a DEVICE.yaml."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument(
        "--board",
        type=Path,
        metavar="DEVICE.yaml",
        help="how to reach the device (default: the study's device.board, else here)",
    )
    parser.add_argument(
        "--trial", type=int, metavar="N", help="this trial only, on the front or not; once more where it was measured"
    )
    parser.add_argument("--results", type=Path, metavar="PATH", help="read results carried from the board")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.front.table import print_front

    config, members, objectives = measure_study(arguments, say)
    print_front(members, config.device.latency_budget_ms, console(), objectives)
    return 0


def chosen_records(
    arguments: argparse.Namespace, config: StudyConfig, study: optuna.Study, say: Callable[[str], None]
) -> list[TrialRecord]:
    """Return the trial ``arguments.trial``, or else the front whatever its budgets; print which of them are not exported.

    Raises:
        UserError: there is no such trial, or none was trained to the end.
    """
    from objectives.trial_record import read_study
    from trial_runner.front.table import front_records
    from trial_runner.study.objectives import stored_objectives

    records = read_study(study, config.study.output_dir)
    if arguments.trial is None:
        unlimited = [item.with_budget(None) for item in stored_objectives(config, study)]
        chosen = front_records(records, math.inf, unlimited)
    else:
        chosen = [record for record in records if record.number == arguments.trial]
    if not chosen:
        raise UserError(
            "no trial was trained to the end yet: there is nothing to measure. Launch the study first."
            if arguments.trial is None
            else f"the study has no trial {arguments.trial}; it has {len(records)}, counted from 0."
        )
    bare = [record.number for record in chosen if not record.bundle]
    if bare:
        say(
            f"not exported, so not measured: trial {', '.join(map(str, bare))}. Run: paretoseg export {arguments.study}"
        )
    return chosen


def measure_study(
    arguments: argparse.Namespace, say: Callable[[str], None]
) -> tuple[StudyConfig, list[TrialRecord], Sequence[Objective]]:
    """Measure the front of ``arguments.study``, or one trial; write table and report anew.

    Args:
        arguments: ``study``, ``overrides``, ``board`` (a DEVICE.yaml; the study's ``device.board`` by default), ``trial``, ``results``.
        say: prints a line.

    Returns:
        The study's configuration, and its front with its objectives, as they are afterwards.

    Raises:
        UserError: something to put right; what was measured is kept.
    """
    from hw_latency_model.board.device_config import load_device
    from objectives.trial_record import read_study
    from trial_runner.constraints.latency_models import load_latency_models
    from trial_runner.front.measurement import carry, measure_front, measure_front_on_board
    from trial_runner.front.report import write_study_report
    from trial_runner.front.table import front_records, write_csv
    from trial_runner.study.objectives import open_configured, stored_objectives

    config = study_config(arguments)
    study = open_configured(config)
    objectives = stored_objectives(config, study)
    chosen = chosen_records(arguments, config, study, say)
    path = arguments.board or config.device.board
    repeat = arguments.trial is not None
    if path is not None:
        board = load_device(path)
        found = measure_front_on_board(config, study, chosen, board, say, results=arguments.results, repeat=repeat)
        if found.kit is not None:
            say(carry(found.kit))
    elif arguments.results is not None:
        raise UserError("--results are carried from a board: give its --board DEVICE.yaml as well.")
    else:
        measure_front(config, study, chosen, load_latency_models(config), say, repeat=repeat)
    paths = StudyPaths(config.study.output_dir)
    front = front_records(read_study(study, config.study.output_dir), config.device.latency_budget_ms, objectives)
    write_csv(front, paths.front_csv, objectives)
    say(f"report: {write_study_report(config, study, paths).as_uri()}")
    return config, front, objectives
