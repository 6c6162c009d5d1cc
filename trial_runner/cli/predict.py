"""`paretoseg predict`: latency of an ONNX file."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from search_spaces._common.errors import UserError
from trial_runner.cli.console import print_error, say, say_json

if TYPE_CHECKING:
    from hw_latency_model import LatencyModel
    from hw_latency_model.model.custom import CustomLatencyModel
    from search_spaces.candidate import Precision
    from trial_runner.config.study import StudyConfig

HELP = "Predict the latency of an ONNX file on a device, with its interval."

_BUILT_FROM = {"fp32": ("fp32", "fp16", "int8"), "fp16": ("fp16",), "bf16": ("bf16",), "int8": ("int8",)}
"""Precisions that a file of each precision can run in: runtimes lower float32, and raise nothing."""
_SIZE = re.compile(r"[1-9][0-9]*(x[1-9][0-9]*)*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("onnx", type=Path, metavar="MODEL.onnx")
    parser.add_argument(
        "--study", type=Path, metavar="STUDY.yaml", help="take device, precision and model from a study"
    )
    parser.add_argument("--device", help="device to predict for (default: the study's, else local-cpu)")
    parser.add_argument("--precision", help="fp32, fp16 or int8 (default: the study's, else the file's own)")
    parser.add_argument(
        "--model",
        type=Path,
        help="latency model (default: that of the study, or of the bundle's study for a file in a bundle, else "
        "latency_model.json in runs/DEVICE-PRECISION or runs/DEVICE)",
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=1x3x512x512",
        help="size of an input that is dynamic in the file; may be repeated (a dynamic batch alone is 1)",
    )
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from hw_latency_model.kernels.extract import network_from_onnx
    from hw_latency_model.kernels.runtimes import runtime_of
    from hw_latency_model.report.advice import interval_advice

    if not arguments.onnx.is_file():
        raise UserError(f"there is no ONNX file at {arguments.onnx}. Give the path of an exported network.")
    network = network_from_onnx(arguments.onnx, inputs=input_sizes(arguments.input))
    study = _study(arguments)
    wanted = arguments.precision or (study.precision if study else None)
    precision = _precision(wanted, network.precision, arguments.onnx)
    model, device, path = _model(arguments, study, precision)
    if not arguments.model:
        used = path if path.is_file() or study else f"bundled with paretoseg ({device} {model.precision})"
        (print_error if arguments.json else say)(f"latency model: {used}")
    if precision != model.precision:
        raise UserError(
            f"the latency model {path} was calibrated for {model.precision}, not for {precision}. "
            "Calibrate that precision, or ask for the one there is."
        )
    runtime = runtime_of(model.fingerprint)
    estimate = model.predict(network.kernels(runtime))
    if not all(map(math.isfinite, (estimate.latency_ms, estimate.low_ms, estimate.high_ms, estimate.coverage))):
        raise UserError(
            f"the latency of {arguments.onnx} cannot be computed: its tensors are too large. Check its sizes."
        )
    notes = list(network.notes)
    if precision != network.precision and not runtime.startswith("tensorrt"):
        notes.append(f"the file is {network.precision}; the latency is that of the network in {precision}")
    advice = interval_advice(estimate, arguments.onnx.name, device=device, precision=model.precision, runtime=runtime)
    if arguments.json:
        parts = [{"name": name, "kind": kind, "latency_ms": ms} for name, kind, ms in estimate.per_kernel]
        facts = {"device": device, "precision": model.precision, "calibrated": model.calibrated}
        told = {"notes": notes} if notes else {}
        known = {"provenance": model.provenance, **estimate.to_dict(), "kernels": parts}
        width = {"width_cause": estimate.width_cause, "too_far": estimate.too_far, "advice": advice}
        say_json({**facts, **known, **width, **told})
        return 0
    say(
        f"{estimate.latency_ms:.2f} ms, {estimate.level:.0%} interval {estimate.low_ms:.2f} to {estimate.high_ms:.2f} ms, "
        f"{estimate.coverage:.0%} of the work of kinds that were measured"
    )
    if not model.calibrated:
        say(model.provenance)
    if estimate.unknown_kinds:
        say(f"never measured: {', '.join(estimate.unknown_kinds)}")
    for line in advice:
        say(line)
    for note in notes:
        say(f"note: {note}")
    return 0


@dataclass(frozen=True)
class _Study:
    """Study that a prediction is for, and the precision of its networks."""

    config: StudyConfig
    precision: str | None


def _study(arguments: argparse.Namespace) -> _Study | None:
    """Return the study named by ``--study``, else that of the bundle that the file is in; None without a usable one.

    Raises:
        UserError: the file given with ``--study`` cannot be read.
    """
    from exports.bundle.read import read_manifest
    from trial_runner.config.load import load_config

    if arguments.model:
        return None
    if arguments.study:
        config = load_config(arguments.study)
        return _Study(config, config.device.precision)
    folder: Path = arguments.onnx.parent
    if not all((folder / name).is_file() for name in ("manifest.json", "study.yaml")):
        return None
    try:
        config = load_config(folder / "study.yaml")
        precision = read_manifest(folder)["precision"]["name"]
    except (UserError, KeyError, TypeError):
        return None  # the bundle was written for another machine or release
    device = config.device
    usable = device.predictor is not None or device.model_path(arguments.precision or precision).is_file()
    return _Study(config, precision) if usable and arguments.device in (None, device.name) else None


def _model(
    arguments: argparse.Namespace, study: _Study | None, precision: str
) -> tuple[LatencyModel | CustomLatencyModel, str, Path]:
    """Return the latency model, its device, and the path that it was looked for at.

    Raises:
        UserError: there is none, or it is damaged or of another machine.
    """
    from hw_latency_model import LatencyModel
    from hw_latency_model.bundled.load import calibrated_or_bundled
    from trial_runner.constraints.latency_models import default_model_path, load_latency_model

    if arguments.model:
        model = LatencyModel.load(arguments.model)
        return model, model.device, arguments.model
    if study is not None and arguments.device in (None, study.config.device.name):
        chosen = cast("Precision", precision)
        name = study.config.device.name
        return load_latency_model(study.config, chosen), name, study.config.device.model_path(chosen)
    device = arguments.device or "local-cpu"
    path = default_model_path(device, precision)
    found = calibrated_or_bundled(path, device, precision)
    return found, found.device, path


def input_sizes(options: list[str]) -> dict[str, tuple[int, ...]]:
    """Parse ``NAME=1x3x512x512`` options into sizes by input name.

    Raises:
        UserError: an option has another form, or a name is given twice.
    """
    sizes: dict[str, tuple[int, ...]] = {}
    for option in options:
        name, equals, text = option.rpartition("=")
        if not equals or not name or not _SIZE.fullmatch(text):
            raise UserError(f"--input {option} is not of the form NAME=1x3x512x512. Write every size, each above 0.")
        if name in sizes:
            raise UserError(f"--input {name} is given twice. Give each input once.")
        sizes[name] = tuple(int(size) for size in text.split("x"))
    return sizes


def _precision(wanted: str | None, stored: str, path: Path) -> str:
    """The precision to predict for.

    Raises:
        UserError: no runtime runs the file in it.
    """
    runs_in = _BUILT_FROM.get(stored)
    if runs_in is None:
        raise UserError(f"{path} works in {stored}, for which there are no latency models. Export the network in fp32.")
    if wanted is None:
        return stored
    if wanted not in runs_in and wanted in _BUILT_FROM:
        raise UserError(
            f"{path} is an {stored} file, and --precision {wanted} would predict another network. "
            f"Leave --precision out, or export the network in {wanted}."
        )
    return wanted
