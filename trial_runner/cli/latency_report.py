"""`paretoseg latency-report`: hold a device's latency model against what was measured, in the terminal and as a page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hw_latency_model.file_names import MODEL_FILE, REPORT_FILE, STORE_FILE
from search_spaces import open_space
from search_spaces._common.errors import UserError
from trial_runner.cli.console import say, say_json
from trial_runner.cli.options import add_study, study_config

if TYPE_CHECKING:
    from hw_latency_model import LatencyModel, Measurement
    from hw_latency_model.report.latency_report import Reading
    from search_spaces import SearchSpace
    from trial_runner.config.study import StudyConfig

HELP = "Show how right a device's latency model is, and what to measure next."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser, optional=True)
    parser.add_argument("--device", help="whose model (default: the study's device, else local-cpu)")
    parser.add_argument(
        "--precision", help="of the study's models, or of one in the box (default: the study's, fp16 for jetson-nano)"
    )
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="latency model (default: the study's, else the device's)"
    )
    parser.add_argument("--store", metavar="PATH|URL", help=f"measurements (default: {STORE_FILE} beside the model)")
    parser.add_argument("--fingerprint", help="beginning of the id of the set-up, where the store has several")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.html", help=f"the page (default: {REPORT_FILE} beside the model)"
    )
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON; no page unless --out is given")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for a model or store that is missing or does not fit."""
    from dashboards.latency_report.html import write_latency_report
    from trial_runner.latency_report import make_report

    config = study_config(arguments) if getattr(arguments, "study", None) else None
    model, folder = _model(arguments, config)
    if model.target != "latency_ms":
        raise UserError(f"the report is about latency, but that model predicts {model.target}; give a latency model.")
    measurements, notes = _measurements(arguments, model, folder)
    report = make_report(model, measurements, space=_space(config), members=_members(config, model.precision))
    if arguments.json:
        say_json(report.to_dict())
        if arguments.out:
            write_latency_report(arguments.out, report)
        return 0
    for line in [report.summary, *notes]:
        say(line)
    page = write_latency_report(arguments.out or folder / REPORT_FILE, report)
    say(f"report:   {page.absolute().as_uri()}")
    return 0


def _space(config: StudyConfig | None) -> SearchSpace | None:

    return open_space(config.space) if config else None


def _model(arguments: argparse.Namespace, config: StudyConfig | None) -> tuple[LatencyModel, Path]:
    """The model, and the folder that its measurements and its report lie in."""
    from hw_latency_model import LatencyModel
    from hw_latency_model.bundled.load import load_bundled

    if arguments.model and arguments.device:
        raise UserError("--device and --model both name a latency model; give one of them.")
    if arguments.model:
        return LatencyModel.load(arguments.model), arguments.model.parent
    device = arguments.device or (config.device.name if config else "local-cpu")
    precision = arguments.precision or (config.device.precision if config else "fp16")
    path = Path("runs") / device / MODEL_FILE
    if config and device == config.device.name:
        if config.device.predictor is not None:
            raise UserError(
                f"device.latency_model is {config.device.predictor}, a function, of which nothing was measured. "
                "Name a latency model with --model."
            )
        path = config.device.model_path(precision)
    if path.is_file() or device == "local-cpu":
        return LatencyModel.load(path), path.parent
    return load_bundled(device, precision), path.parent


def _measurements(
    arguments: argparse.Namespace, model: LatencyModel, folder: Path
) -> tuple[list[Measurement], list[str]]:
    """Return the measurements of the model's device, and notes on those left out."""
    from hw_latency_model import MeasurementStore
    from hw_latency_model.store.fingerprints import describe_difference

    where = arguments.store or folder / STORE_FILE
    if arguments.store is None and not where.is_file():
        return [], [f"no measurements: there is no {where}"]
    with MeasurementStore(where, create=False) as store:
        groups = [group for group in store.groups(model.device) if group.precision == model.precision]
        if not model.calibrated:
            if not groups and arguments.store is None:
                return [], [f"no measurements of {model.device} {model.precision} in {store.name}"]
            wanted = arguments.fingerprint
            return store.of_device(model.device, fingerprint=wanted, precision=model.precision), []
        others = [group for group in groups if group.fingerprint_id != model.fingerprint_id]
        notes = []
        if others:
            count = sum(group.measurements for group in others)
            different = describe_difference([model.fingerprint, *(group.fingerprint for group in others)])
            notes.append(f"left out: {count} measurements of another set-up ({different})")
        return store.all(model.device, model.fingerprint, precision=model.precision), notes


def _members(config: StudyConfig | None, precision: str) -> list[Reading]:
    """The study's front in a precision, as far as it has one."""
    if config is None:
        return []
    from dashboards import text
    from hw_latency_model.report.latency_report import Reading
    from objectives.trial_record import read_study
    from trial_runner.front.table import front_records
    from trial_runner.study.objectives import open_configured, stored_objectives
    from trial_runner.study.storage import StorageError

    try:
        study = open_configured(config)
    except StorageError:
        return []  # not launched yet: the model can be looked at before
    unlimited = [objective.with_budget(None) for objective in stored_objectives(config, study)]
    records = front_records(read_study(study, config.study.output_dir), float("inf"), unlimited)
    return [
        Reading(
            name=f"trial {record.number}: {text.network(record)}",
            family=str(record.params.get("family", "")),
            predicted_ms=estimate.latency_ms,
            low_ms=estimate.low_ms,
            high_ms=estimate.high_ms,
            measured_ms=record.measured_ms,
            coverage=estimate.coverage,
            unknown_kinds=estimate.unknown_kinds,
        )
        for record in records
        if (estimate := record.judged_estimate) is not None
        and (len(config.precisions) == 1 or record.precision == precision)
    ]
