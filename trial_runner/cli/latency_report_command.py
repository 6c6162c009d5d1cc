"""`paretoseg latency-report`: hold a device's latency model against what was measured, in the terminal and as a page."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces._common.errors import UserError

if TYPE_CHECKING:
    from hw_latency_model import LatencyModel, Measurement, MeasurementStore
    from hw_latency_model.report.latency_report import LatencyReport, Reading
    from search_spaces import SearchSpace
    from trial_runner.config.study import StudyConfig

MODEL_FILE = "latency_model.json"
STORE_FILE = "measurements.sqlite"
REPORT_FILE = "latency_report.html"


def add_report_arguments(sub: argparse.ArgumentParser) -> None:
    """Options of `paretoseg latency-report`, beside the optional STUDY.yaml."""
    sub.add_argument("--device", help="whose model (default: the study's device, else local-cpu)")
    sub.add_argument(
        "--precision", help="of the study's models, or of one in the box (default: the study's, fp16 for jetson-nano)"
    )
    sub.add_argument(
        "--model", type=Path, metavar="FILE", help="latency model (default: the study's, else the device's)"
    )
    sub.add_argument("--store", metavar="PATH|URL", help=f"measurements (default: {STORE_FILE} beside the model)")
    sub.add_argument("--fingerprint", help="beginning of the id of the set-up, where the store has several")
    sub.add_argument(
        "--out", type=Path, metavar="FILE.html", help=f"the page (default: {REPORT_FILE} beside the model)"
    )
    sub.add_argument("--json", action="store_true", help="print all numbers as JSON; no page unless --out is given")


def latency_report(arguments: argparse.Namespace) -> int:
    """What the command does. Raises UserError for a model or store that is missing or does not fit."""
    from dashboards.latency_report.html import write_latency_report

    config = _config(arguments)
    model, folder = _model(arguments, config)
    if model.target != "latency_ms":
        raise UserError(f"the report is about latency, but that model predicts {model.target}; give a latency model.")
    measurements, notes = _measurements(arguments, model, folder)
    report = make_report(model, measurements, space=_space(config), members=_members(config, model.precision))
    if arguments.json:
        _say(json.dumps(report.to_dict(), indent=2, allow_nan=False))
        if arguments.out:
            write_latency_report(arguments.out, report)
        return 0
    for line in [report.summary, *notes]:
        _say(line)
    page = write_latency_report(arguments.out or folder / REPORT_FILE, report)
    _say(f"report:   {page.absolute().as_uri()}")
    return 0


def report_calibration(
    model_path: Path,
    store: MeasurementStore,
    say: Callable[[str], None],
    *,
    space: SearchSpace | None = None,
    num_classes: int = 14,
) -> Path:
    """The end of a calibration: the summary said, the page written beside the model; its path.

    Args:
        space: what the measured networks were drawn from; names them, and proposes the next ones.
        num_classes: that they were built for.
    """
    from dashboards.latency_report.html import write_latency_report
    from hw_latency_model import LatencyModel

    model = LatencyModel.load(model_path)
    measurements = store.all(model.device, model.fingerprint, precision=model.precision)
    report = make_report(model, measurements, space=space, num_classes=num_classes)
    say(report.summary)
    page = write_latency_report(model_path.with_name(REPORT_FILE), report)
    say(f"report:   {page.absolute().as_uri()}")
    return page


def make_report(
    model: LatencyModel,
    measurements: Sequence[Measurement],
    *,
    space: SearchSpace | None = None,
    num_classes: int = 14,
    members: Sequence[Reading] = (),
) -> LatencyReport:
    """The report, in which networks of a search space go by their params instead of an id."""
    from hw_latency_model.report.latency_report import build_latency_report
    from search_spaces import get_space
    from trial_runner.cli.latency_names import architecture_names, next_candidates

    space = space or get_space("encoder_decoder", {})
    names = architecture_names(space)

    def known(item: Measurement) -> tuple[str, str]:
        return names.get(item.subject.partition("-")[0], (item.family, item.subject))

    return build_latency_report(
        model,
        measurements,
        family_of=lambda item: item.family or known(item)[0],
        name_of=lambda item: known(item)[1],
        suggest=lambda: next_candidates(model, space, num_classes, measurements),
        members=members,
    )


def _config(arguments: argparse.Namespace) -> StudyConfig | None:
    if not getattr(arguments, "study", None):
        return None
    from trial_runner.config.load import load_config

    return load_config(arguments.study, arguments.overrides)


def _space(config: StudyConfig | None) -> SearchSpace | None:
    from search_spaces import get_space

    return get_space(config.space.name, config.space.options()) if config else None


def _model(arguments: argparse.Namespace, config: StudyConfig | None) -> tuple[LatencyModel, Path]:
    """The model, and the folder that its measurements and its report lie in."""
    from hw_latency_model import LatencyModel
    from hw_latency_model.bundled.load import load_boxed

    if arguments.model and arguments.device:
        raise UserError("--device and --model both name a latency model; give one of them.")
    if arguments.model:
        return LatencyModel.load(arguments.model), arguments.model.parent
    device = arguments.device or (config.device.name if config else "local-cpu")
    precision = arguments.precision or (config.device.precision if config else "fp16")
    path = Path("runs") / device / MODEL_FILE
    if config and device == config.device.name:
        path = config.device.model_path(precision)
    if path.is_file() or device == "local-cpu":
        return LatencyModel.load(path), path.parent
    return load_boxed(device, precision), path.parent


def _measurements(
    arguments: argparse.Namespace, model: LatencyModel, folder: Path
) -> tuple[list[Measurement], list[str]]:
    """What was measured of the model's device, and what has to be said about what was left out."""
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
    records = front_records(read_study(study), float("inf"), unlimited)
    return [
        Reading(
            name=f"trial {record.number}: {text.network(record)}",
            family=str(record.params.get("family", "")),
            predicted_ms=record.latency_ms,
            low_ms=record.latency_ms if record.latency_low_ms is None else record.latency_low_ms,
            high_ms=record.latency_ms if record.latency_high_ms is None else record.latency_high_ms,
            measured_ms=record.measured_ms,
            coverage=1.0 if record.coverage is None else record.coverage,
            unknown_kinds=record.unknown_kinds,
        )
        for record in records
        if record.latency_ms is not None and (len(config.precisions) == 1 or record.precision == precision)
    ]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
