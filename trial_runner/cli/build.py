"""`paretoseg build`: engines of a study's winners, built on the board, measured there, and checked for parity."""

from __future__ import annotations

import argparse
from pathlib import Path

from search_spaces._common.errors import UserError
from trial_runner.cli.console import console, say
from trial_runner.cli.measure import chosen_records
from trial_runner.cli.options import add_study, study_config
from trial_runner.study.paths import StudyPaths

HELP = "Build the engines of a study's front, or of one trial, on the board: measured, and compared with torch on validation images."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument(
        "--board", type=Path, metavar="DEVICE.yaml", help="how to reach the device (default: the study's device.board)"
    )
    parser.add_argument(
        "--trial", type=int, metavar="N", help="this trial only, on the front or not; once more where it has an engine"
    )
    parser.add_argument("--workspace-mb", type=int, metavar="MB", help="memory for building an engine (default: 512)")
    parser.add_argument("--results", type=Path, metavar="PATH", help="read the folder carried from the board")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return 0, or 1 where an engine is missing or fails its check. Raises UserError for bad input."""
    from hw_latency_model.board.device_config import load_device
    from objectives.trial_record import read_study
    from trial_runner.front.engines import build_front_engines
    from trial_runner.front.measurement import carry
    from trial_runner.front.report import write_study_report
    from trial_runner.front.table import front_records, print_front, write_csv
    from trial_runner.study.objectives import open_configured, stored_objectives

    config = study_config(arguments)
    board = arguments.board or config.device.board
    if board is None:
        raise UserError(
            "an engine is built on a board: give its --board DEVICE.yaml, or set device.board in the study."
        )
    if arguments.workspace_mb is not None and arguments.workspace_mb < 1:
        raise UserError(f"--workspace-mb is at least 1, not {arguments.workspace_mb}.")
    device = load_device(board)
    study = open_configured(config)
    chosen = chosen_records(arguments, config, study, say)
    if arguments.trial is not None and not chosen[0].bundle:
        raise UserError(
            f"trial {arguments.trial} is not exported, so there is nothing to build. Run: paretoseg export {arguments.study} "
            f"--trial {arguments.trial}"
        )
    found = build_front_engines(
        config,
        study,
        chosen,
        device,
        say,
        results=arguments.results,
        repeat=arguments.trial is not None,
        workspace_mb=arguments.workspace_mb,
    )
    if found.kit is not None:
        say(carry(found.kit, "build"))
    objectives, paths = stored_objectives(config, study), StudyPaths(config.study.output_dir)
    budget_ms = config.device.latency_budget_ms
    front = front_records(read_study(study, config.study.output_dir), budget_ms, objectives)
    write_csv(front, paths.front_csv, objectives)
    say(f"report: {write_study_report(config, study, paths).as_uri()}")
    print_front(front, budget_ms, console(), objectives)
    return 1 if found.failed or any(not step["passed"] for step in found.built.values()) else 0
