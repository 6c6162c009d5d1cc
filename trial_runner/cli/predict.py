"""`paretoseg predict`: latency of an ONNX file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hw_latency_model.file_names import MODEL_FILE
from search_spaces._common.errors import UserError
from trial_runner.cli.console import say

HELP = "Predict the latency of an ONNX file on a device, with its interval."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("onnx", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--device", default="local-cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument(
        "--model",
        type=Path,
        help="latency model (default: latency_model.json in runs/DEVICE-PRECISION, else in runs/DEVICE)",
    )
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from hw_latency_model import LatencyModel, kernels_from_onnx
    from hw_latency_model.bundled.load import calibrated_or_bundled
    from hw_latency_model.kernels.runtimes import runtime_of

    if not arguments.onnx.is_file():
        raise UserError(f"there is no ONNX file at {arguments.onnx}. Give the path of an exported network.")
    folder = Path("runs") / arguments.device
    beside = folder.with_name(f"{folder.name}-{arguments.precision}")
    path = arguments.model or (beside if (beside / MODEL_FILE).is_file() else folder) / MODEL_FILE
    if arguments.model:
        model = LatencyModel.load(path)
    else:
        model = calibrated_or_bundled(path, arguments.device, arguments.precision)
    if arguments.precision != model.precision:
        raise UserError(
            f"the latency model {path} was calibrated for {model.precision}, not for {arguments.precision}. "
            "Calibrate that precision, or ask for the one there is."
        )
    estimate = model.predict(kernels_from_onnx(arguments.onnx, runtime=runtime_of(model.fingerprint)))
    if arguments.json:
        parts = [{"name": name, "kind": kind, "latency_ms": ms} for name, kind, ms in estimate.per_kernel]
        facts = {"device": model.device, "precision": model.precision, "calibrated": model.calibrated}
        said = {**facts, "provenance": model.provenance, **estimate.to_dict(), "kernels": parts}
        say(json.dumps(said, indent=2))
        return 0
    say(
        f"{estimate.latency_ms:.2f} ms, {estimate.level:.0%} interval {estimate.low_ms:.2f} to {estimate.high_ms:.2f} ms, "
        f"{estimate.coverage:.0%} of the work of kinds that were measured"
    )
    if not model.calibrated:
        say(model.provenance)
    if estimate.unknown_kinds:
        say(f"never measured: {', '.join(estimate.unknown_kinds)}")
    return 0
