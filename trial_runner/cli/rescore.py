"""`paretoseg rescore`: a study's front on another device, without training."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces._common.errors import UserError
from trial_runner.cli.console import console, print_error, say, say_json
from trial_runner.cli.options import add_study, study_config

if TYPE_CHECKING:
    from trial_runner.config.study import StudyConfig

HELP = "Print a study's front under the latency of another device, without training."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument(
        "--device", metavar="NAME", help="device to predict for (default: the study's, with its latency model of today)"
    )
    parser.add_argument("--precision", help="fp32, fp16 or int8 (default: the study's)")
    parser.add_argument(
        "--model",
        type=Path,
        help="latency model (default: latency_model.json in runs/DEVICE-PRECISION or runs/DEVICE, else the bundled one)",
    )
    parser.add_argument(
        "--budget-ms", type=float, help="latency budget on the device (default: none; the study's for its own device)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the front to this file too")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from objectives.trial_record import read_study
    from search_spaces import open_space
    from trial_runner.constraints.latency_models import load_latency_models
    from trial_runner.front.report import class_names_of
    from trial_runner.front.rescore import rescored
    from trial_runner.front.table import front_records, front_rows, print_front, write_csv
    from trial_runner.study.objectives import open_configured, stored_objectives

    config = study_config(arguments)
    study = open_configured(config)
    target = _on_device(arguments, config)
    note = print_error if arguments.json else say
    models = load_latency_models(target)
    for precision, model in models.items():
        path = target.device.model_path(precision)
        used = path if path.is_file() or target.device.predictor else "bundled with paretoseg"
        note(f"latency model: {used} ({target.device.name} {precision})")
        if not model.calibrated:
            note(model.provenance)
    same_device = target.device.name == config.device.name and target.device.precision == config.device.precision
    if target.device.precision != config.device.precision and not config.space.precisions:
        note(f"the accuracies are those in {config.device.precision}; the latencies are in {target.device.precision}")
    budget_ms = _budget_ms(arguments, config, same_device=same_device)
    objectives = stored_objectives(config, study)
    records = rescored(
        read_study(study, config.study.output_dir),
        open_space(config.space),
        target,
        list(models.values()),
        objectives,
        num_classes=len(class_names_of(config, study)),
        keep_measured=same_device,
    )
    members = front_records(records, budget_ms, objectives)
    if arguments.csv:
        write_csv(members, arguments.csv, objectives)
    if arguments.json:
        say_json(front_rows(members, objectives))
    else:
        print_front(members, budget_ms, console(), objectives)
    return 0


def _on_device(arguments: argparse.Namespace, config: StudyConfig) -> StudyConfig:
    """Return the study's configuration with the device of the arguments.

    Raises:
        UserError: the device does not run the precision.
    """
    from trial_runner.config.load import load_config
    from trial_runner.constraints.latency_models import default_model_path

    name = arguments.device or config.device.name
    precision = arguments.precision or config.device.precision
    model: Path | None = arguments.model
    if model is None and (name, precision) == (config.device.name, config.device.precision):
        return config
    if model is None:
        own = name == config.device.name and config.device.predictor is None
        model = config.device.model_path(precision) if own else default_model_path(name, precision)
    elif not model.is_file():
        raise UserError(f"there is no latency model at {model}. Give the path of one, or leave --model out.")
    changes = {"name": name, "precision": precision, "latency_model": model.resolve(), "board": "null"}
    changes |= {} if name == config.device.name else {"latency_models": "{}"}
    overrides = [*(f"device.{key}={changes[key]}" for key in changes), *(["targets=[]"] if config.targets else [])]
    return load_config(arguments.study, [*arguments.overrides, *overrides])


def _budget_ms(arguments: argparse.Namespace, config: StudyConfig, *, same_device: bool) -> float:
    if arguments.budget_ms is None:
        return config.device.latency_budget_ms if same_device else math.inf
    if not arguments.budget_ms > 0:
        raise UserError(f"--budget-ms is {arguments.budget_ms:g}, which no network keeps. Give milliseconds above 0.")
    return float(arguments.budget_ms)
