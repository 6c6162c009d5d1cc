"""The command `paretoseg`. Only argument parsing here; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from search_spaces._common.errors import UserError
from trial_runner.cli.latency_report_command import add_report_arguments
from trial_runner.cli.measurements_command import add_measurements_arguments


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="paretoseg",
        description="Search for segmentation networks that are accurate and fast on one real, small device.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    def study_argument(sub: argparse.ArgumentParser, *, optional: bool = False) -> None:
        sub.add_argument(
            "study", type=Path, metavar="STUDY.yaml", nargs="?" if optional else None, help="the study's YAML file"
        )
        sub.add_argument(
            "--set",
            dest="overrides",
            action="append",
            default=[],
            metavar="section.key=value",
            help="change a key of the YAML for this run",
        )

    doctor = command(
        "doctor", "Check this machine, and a study's data, storage and latency model where a YAML is given."
    )
    study_argument(doctor, optional=True)

    calibrate = command(
        "calibrate", "Measure a device and fit its latency model: this machine's CPU, or the board of a DEVICE.yaml."
    )
    calibrate.add_argument("--device", help="what to measure (default: the study's device, else local-cpu)")
    calibrate.add_argument(
        "--minutes", type=float, default=1.5, help="time to spend on each precision (default: %(default)s)"
    )
    calibrate.add_argument(
        "--hours", type=float, help="time to spend on a DEVICE.yaml (default: its calibration.hours)"
    )
    calibrate.add_argument(
        "--results", type=Path, metavar="PATH", help="read results carried from the board (DEVICE.yaml)"
    )
    calibrate.add_argument("--out", type=Path, help="folder for the model (default: the study's, else runs/DEVICE)")
    calibrate.add_argument("--seed", type=int, default=0)
    calibrate.add_argument("--if-missing", action="store_true", help="do nothing where the model is there already")
    study_argument(calibrate, optional=True)

    launch = command("launch", "Run a study, or go on with it where it stopped.")
    study_argument(launch)

    dashboard = command("dashboard", "Open optuna-dashboard on a study, with its exported networks.")
    study_argument(dashboard)
    dashboard.add_argument(
        "--host", default="127.0.0.1", help="address to bind to (default: %(default)s, this machine only)"
    )
    dashboard.add_argument("--port", type=int, default=8080)

    predict = command("predict", "Predict the latency of an ONNX file on a device, with its interval.")
    predict.add_argument("onnx", type=Path, metavar="MODEL.onnx")
    predict.add_argument("--device", default="local-cpu")
    predict.add_argument("--precision", default="fp32")
    predict.add_argument(
        "--model",
        type=Path,
        help="latency model (default: latency_model.json in runs/DEVICE-PRECISION, else in runs/DEVICE)",
    )
    predict.add_argument("--json", action="store_true")

    latency_report = command("latency-report", "Show how right a device's latency model is, and what to measure next.")
    study_argument(latency_report, optional=True)
    add_report_arguments(latency_report)

    add_measurements_arguments(command("measurements", "List, export or import what was measured."))

    front = command("front", "Print the Pareto front of a study.")
    study_argument(front)
    front.add_argument("--json", action="store_true", help="a list of objects instead of a table")

    measure = command(
        "measure", "Measure a study's front, or one trial, on the device: here, or on the board of a DEVICE.yaml."
    )
    study_argument(measure)
    measure.add_argument(
        "--board",
        type=Path,
        metavar="DEVICE.yaml",
        help="how to reach the device (default: the study's device.board, else here)",
    )
    measure.add_argument("--trial", type=int, metavar="N", help="this trial only, on the front or not")
    measure.add_argument("--results", type=Path, metavar="PATH", help="read results carried from the board")

    export = command("export", "Export the front of a study, or one trial, as bundles.")
    study_argument(export)
    export.add_argument("--trial", type=int, help="this trial only, on the front or not")
    export.add_argument("--out", type=Path, help="folder for the bundles (default: the study's)")

    evaluate = command("evaluate", "Score an exported network on a split, outside its study.")
    evaluate.add_argument("network", type=Path, metavar="BUNDLE|FILE.pt", help="a bundle's folder, or a network file")
    evaluate.add_argument("--data", type=Path, help="folder of the data (default: the study's)")
    evaluate.add_argument("--kind", help="kind of the data, e.g. camvid (default: the study's)")
    evaluate.add_argument("--split", default="val", choices=("train", "val", "test"))
    evaluate.add_argument("--robust", action="store_true", help="score corrupted images as well")
    evaluate.add_argument("--json", action="store_true")

    refit = command("refit", "Train one trial's candidate again on several seeds, and report mean and spread.")
    study_argument(refit)
    refit.add_argument("--trial", type=int, required=True, metavar="N")
    refit.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    refit.add_argument("--epochs", type=int, help="of each training (default: the study's)")
    refit.add_argument("--json", action="store_true")

    report = command("report", "Write the HTML report of a study.")
    study_argument(report)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what it says, 1 for a check that failed, 2 for bad input, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no × gets a question mark, not a traceback
    arguments = build_parser().parse_args(argv)
    # One thread a slot: two fight for the cores of a small machine and lose (docs/decisions.md).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        from trial_runner.cli import commands

        handler = getattr(commands, arguments.command.replace("-", "_"))
        return int(handler(arguments))
    except UserError as error:
        print(f"paretoseg: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("paretoseg: stopped. Nothing is lost; run the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
