"""`paretoseg calibrate`: measure this machine, or the board of a DEVICE.yaml, and fit its latency model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hw_latency_model.file_names import MODEL_FILE
from search_spaces._common.errors import UserError
from trial_runner.cli.console import say
from trial_runner.cli.options import add_study, study_config

if TYPE_CHECKING:
    from search_spaces import SearchSpace
    from trial_runner.config.study import StudyConfig


HELP = "Measure a device and fit its latency model: this machine's CPU, or the board of a DEVICE.yaml."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("--device", help="what to measure (default: the study's device, else local-cpu)")
    parser.add_argument(
        "--minutes", type=float, default=1.5, help="time to spend on each precision (default: %(default)s)"
    )
    parser.add_argument("--hours", type=float, help="time to spend on a DEVICE.yaml (default: its calibration.hours)")
    parser.add_argument(
        "--results", type=Path, metavar="PATH", help="read results carried from the board (DEVICE.yaml)"
    )
    parser.add_argument("--out", type=Path, help="folder for the model (default: the study's, else runs/DEVICE)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--from",
        dest="start_from",
        action="append",
        metavar="DEVICE,…",
        help="start from other devices' models: bundled ones, folders beside the model's, or files; auto: from the most alike of all",
    )
    parser.add_argument("--if-missing", action="store_true", help="do nothing where the model is there already")
    add_study(parser, optional=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from hw_latency_model.board.device_config import is_device_file

    if arguments.study and is_device_file(arguments.study):
        return calibrate_device(arguments, say)
    if arguments.hours is not None or arguments.results is not None:
        raise UserError(
            "--hours and --results are for a DEVICE.yaml. Give one, such as configs/devices/jetson-nano.yaml."
        )
    return calibrate_here(arguments, say)


def calibrate_here(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Fit a latency model for each precision of ``arguments.study``, or one in float32 without a study; 0.

    Args:
        arguments: ``study``, ``overrides``, ``device``, ``out``, ``minutes`` (for each precision), ``seed``, ``if_missing``.
        say: prints a line.

    Raises:
        UserError: something to put right; what was measured is kept.
    """
    from search_spaces import get_space, open_space

    if not arguments.minutes > 0:
        raise UserError(f"a calibration takes time: --minutes must be above 0, not {arguments.minutes:g}.")
    if arguments.study is None:
        name = arguments.device or "local-cpu"
        folders = {"fp32": arguments.out or Path("runs") / name}
        _calibrate(name, get_space("encoder_decoder", {}), 14, folders, arguments, say)
        return 0
    from trial_runner.training.trial import open_split

    config = study_config(arguments)
    if config.device.predictor is not None:
        raise UserError(
            f"device.latency_model is {config.device.predictor}, a function, which is not calibrated. Give the path of a "
            "latency_model.json to calibrate, or launch the study as it is."
        )
    name = arguments.device or config.device.name
    if name != config.device.name:
        raise UserError(
            f"{arguments.study} is a study for {config.device.name}, not for {name}. Leave --device or the YAML out."
        )
    classes = len(open_split(config.data, "val", config.study.seed).info.class_names)
    space = open_space(config.space)
    _calibrate(name, space, classes, _folders(config, arguments.out), arguments, say)
    return 0


def _folders(config: StudyConfig, out: Path | None) -> Mapping[str, Path]:
    """Return the model folder of each precision."""
    if out is None:
        return {precision: config.device.model_path(precision).parent for precision in config.precisions}
    if len(config.precisions) > 1:
        raise UserError(
            f"--out names one folder, but the study offers {' and '.join(config.precisions)}, whose models need one each. "
            "Leave --out out; device.latency_model and device.latency_models say where they go."
        )
    return {config.precisions[0]: out}


def _calibrate(
    name: str,
    space: SearchSpace,
    num_classes: int,
    folders: Mapping[str, Path],
    arguments: argparse.Namespace,
    say: Callable[[str], None],
) -> None:
    from hw_latency_model import MeasurementStore, calibrate, get_device
    from hw_latency_model.bundled.load import models_to_start_from
    from trial_runner.latency_report import report_calibration
    from trial_runner.launch_checks import check_room

    for precision, out in folders.items():
        if arguments.if_missing and (out / MODEL_FILE).is_file():
            say(f"the latency model {out / MODEL_FILE} is there already")
            continue
        device = get_device(name, precision)
        check_room(out)
        report = calibrate(
            device,
            space,
            num_classes,
            out,
            budget_s=60 * arguments.minutes,
            seed=arguments.seed,
            progress=say,
            others=models_to_start_from(_start_from(arguments), precision, out),
        )
        say(f"latency model: {report.model_path}")
        with MeasurementStore(report.store_path) as store:
            report_calibration(report.model_path, store, say, space=space, num_classes=num_classes)


def _start_from(arguments: argparse.Namespace) -> list[str]:
    """Return the names given with ``--from``, which other commands that calibrate do not have."""
    given = getattr(arguments, "start_from", None) or ()
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def calibrate_device(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Calibrate the device of ``arguments.study``, a DEVICE.yaml; 0 when there is a model, or a kit to carry.

    Args:
        arguments: ``study``, ``overrides``, ``hours``, ``results``, ``device``, ``out``, ``if_missing``.
        say: prints a line.

    Raises:
        UserError: something to put right; what was measured is kept.
    """
    from hw_latency_model.board.device_config import load_device

    for option, instead in (("device", "device.name"), ("out", "calibration.output_dir")):
        if getattr(arguments, option) is not None:
            raise UserError(
                f"--{option} is not for a DEVICE.yaml: {arguments.study} says it. Change it there, or with --set {instead}=…"
            )
    config = load_device(arguments.study, arguments.overrides)
    if arguments.if_missing and config.model_path.is_file():
        say(f"the latency model {config.model_path} is there already")
        return 0
    from hw_latency_model.board.calibration import calibrate_board
    from hw_latency_model.bundled.load import models_to_start_from
    from hw_latency_model.store.measurement_store import MeasurementStore
    from search_spaces import open_space
    from trial_runner.latency_report import report_calibration

    others = models_to_start_from(_start_from(arguments), config.device.precision, config.model_path.parent)
    report = calibrate_board(config, hours=arguments.hours, results=arguments.results, progress=say, others=others)
    say(report.summary)
    if report.model_path is not None:
        space = open_space(config.space)
        with MeasurementStore(config.store_location) as store:
            report_calibration(report.model_path, store, say, space=space, num_classes=config.calibration.num_classes)
    return 0
