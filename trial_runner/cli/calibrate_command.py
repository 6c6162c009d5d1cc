"""`paretoseg calibrate`, with a STUDY.yaml or without: measuring this machine, in each precision that the study offers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces._common.errors import UserError
from trial_runner.cli.latency_report_command import MODEL_FILE, report_calibration
from trial_runner.config.load import load_config

if TYPE_CHECKING:
    from search_spaces import SearchSpace
    from trial_runner.config.study import StudyConfig


def calibrate_here(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Fit a latency model for each precision of ``arguments.study``, or one in float32 without a study; 0.

    Args:
        arguments: ``study``, ``overrides``, ``device``, ``out``, ``minutes`` (for each precision), ``seed``, ``if_missing``.
        say: prints a line.

    Raises:
        UserError: something to put right; what was measured is kept.
    """
    from search_spaces import get_space

    if not arguments.minutes > 0:
        raise UserError(f"a calibration takes time: --minutes must be above 0, not {arguments.minutes:g}.")
    if arguments.study is None:
        name = arguments.device or "local-cpu"
        folders = {"fp32": arguments.out or Path("runs") / name}
        _calibrate(name, get_space("encoder_decoder", {}), 14, folders, arguments, say)
        return 0
    from trial_runner.training.trial import open_split

    config = load_config(arguments.study, arguments.overrides)
    name = arguments.device or config.device.name
    if name != config.device.name:
        raise UserError(
            f"{arguments.study} is a study for {config.device.name}, not for {name}. Leave --device or the YAML out."
        )
    classes = len(open_split(config.data, "val", config.study.seed).info.class_names)
    space = get_space(config.space.name, config.space.options())
    _calibrate(name, space, classes, _folders(config, arguments.out), arguments, say)
    return 0


def _folders(config: StudyConfig, out: Path | None) -> Mapping[str, Path]:
    """Where the model of each precision goes."""
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
    from trial_runner.launch import check_room

    for precision, out in folders.items():
        if arguments.if_missing and (out / MODEL_FILE).is_file():
            say(f"the latency model {out / MODEL_FILE} is there already")
            continue
        device = get_device(name, precision)
        check_room(out)
        report = calibrate(
            device, space, num_classes, out, budget_s=60 * arguments.minutes, seed=arguments.seed, progress=say
        )
        say(f"latency model: {report.model_path}")
        with MeasurementStore(report.store_path) as store:
            report_calibration(report.model_path, store, say, space=space, num_classes=num_classes)
