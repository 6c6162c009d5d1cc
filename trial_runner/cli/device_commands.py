"""`paretoseg calibrate DEVICE.yaml`: measuring a board, over ssh, on this machine, or by a folder on a stick."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from hw_latency_model.board.device_config import load_device
from search_spaces._common.errors import UserError


def calibrate_device(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Calibrate the device of ``arguments.study``, a DEVICE.yaml; 0 when there is a model, or a kit to carry.

    Args:
        arguments: ``study``, ``overrides``, ``hours``, ``results``, ``device``, ``out``, ``if_missing``.
        say: prints a line.

    Raises:
        UserError: something to put right; what was measured is kept.
    """
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
    from hw_latency_model.store.measurement_store import MeasurementStore
    from search_spaces import get_space
    from trial_runner.cli.latency_report_command import report_calibration

    report = calibrate_board(config, hours=arguments.hours, results=arguments.results, progress=say)
    say(report.summary)
    if report.model_path is not None:
        space = get_space(config.space.name, config.space.options())
        with MeasurementStore(config.store_location) as store:
            report_calibration(report.model_path, store, say, space=space, num_classes=config.calibration.num_classes)
    return 0
