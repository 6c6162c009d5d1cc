"""What each command of `paretoseg` does. One function a command, named like it, from parsed arguments to exit status."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from search_spaces._common.errors import UserError
from trial_runner.cli.latency_report_command import MODEL_FILE, latency_report
from trial_runner.cli.measurements_command import measurements
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.study.paths import StudyPaths

__all__ = [
    "calibrate",
    "dashboard",
    "doctor",
    "evaluate",
    "export",
    "front",
    "latency_report",
    "launch",
    "measure",
    "measurements",
    "predict",
    "refit",
    "report",
]

if TYPE_CHECKING:
    from objectives.trial_record import TrialRecord


def _console() -> Console:
    # A pipe gets whole lines: rich would fold a table to 80 columns there.
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _mutter(line: str) -> None:
    sys.stderr.write(line + "\n")


def _config(arguments: argparse.Namespace) -> StudyConfig:
    return load_config(arguments.study, arguments.overrides)


def _trial(records: Sequence[TrialRecord], number: int) -> TrialRecord:
    for record in records:
        if record.number == number:
            return record
    raise UserError(f"the study has no trial {number}; it has {len(records)}, counted from 0.")


def doctor(arguments: argparse.Namespace) -> int:
    from trial_runner.doctor import examine

    findings = examine(_config(arguments) if arguments.study else None)
    for finding in findings:
        _say(f"{finding.verdict:<5} {finding.subject}: {finding.text}")
    failed = sum(finding.verdict == "FAIL" for finding in findings)
    _say("all is well" if not failed else f"{failed} to put right before a launch")
    return 1 if failed else 0


def calibrate(arguments: argparse.Namespace) -> int:
    from hw_latency_model.board.device_config import is_device_file

    if arguments.study and is_device_file(arguments.study):
        from trial_runner.cli.device_commands import calibrate_device

        return calibrate_device(arguments, _say)
    if arguments.hours is not None or arguments.results is not None:
        raise UserError(
            "--hours and --results are for a DEVICE.yaml. Give one, such as configs/devices/jetson-nano.yaml."
        )
    from trial_runner.cli.calibrate_command import calibrate_here

    return calibrate_here(arguments, _say)


def launch(arguments: argparse.Namespace) -> int:
    from trial_runner.front.table import print_front
    from trial_runner.launch import launch as run_study
    from trial_runner.launch import quiet_libraries

    config = _config(arguments)
    quiet_libraries()
    _say(f"study {config.study.name} on {config.device.name}; Ctrl-C stops it, and the same command goes on")
    result = run_study(config, _say)
    outcomes = [
        "trained on" if record.continues is not None and record.complete else record.outcome
        for record in result.records
    ]
    counts = {
        name: outcomes.count(name) for name in ("finished", "stopped", "refused", "failed", "reused", "trained on")
    }
    _say(f"{result.why}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    print_front(result.front, config.device.latency_budget_ms, _console(), result.objectives)
    paths = StudyPaths(config.study.output_dir)
    _say(f"bundles:  {paths.bundle(0).parent}")
    _say(f"table:    {paths.front_csv}")
    overrides = "".join(f" --set {shlex.quote(override)}" for override in arguments.overrides)
    _say(f"watch it: paretoseg dashboard {arguments.study}{overrides}")
    _say(f"report:   {result.report.as_uri()}")
    return 0


def dashboard(arguments: argparse.Namespace) -> int:
    from dashboards import serve
    from trial_runner.front.report import fill_dashboard

    config = _config(arguments)
    paths = fill_dashboard(config)

    def ready(address: str) -> None:
        _say(f"optuna-dashboard on {address} (Ctrl-C ends it)")

    serve(config.study.storage, paths.artifacts, host=arguments.host, port=arguments.port, on_ready=ready)
    return 0


def predict(arguments: argparse.Namespace) -> int:
    from hw_latency_model import LatencyModel, kernels_from_onnx
    from hw_latency_model.bundled.load import calibrated_or_boxed
    from hw_latency_model.kernels.runtimes import runtime_of

    if not arguments.onnx.is_file():
        raise UserError(f"there is no ONNX file at {arguments.onnx}. Give the path of an exported network.")
    folder = Path("runs") / arguments.device
    beside = folder.with_name(f"{folder.name}-{arguments.precision}")
    path = arguments.model or (beside if (beside / MODEL_FILE).is_file() else folder) / MODEL_FILE
    if arguments.model:
        model = LatencyModel.load(path)
    else:
        model = calibrated_or_boxed(path, arguments.device, arguments.precision)
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
        _say(json.dumps(said, indent=2))
        return 0
    _say(
        f"{estimate.latency_ms:.2f} ms, {estimate.level:.0%} interval {estimate.low_ms:.2f} to {estimate.high_ms:.2f} ms, "
        f"{estimate.coverage:.0%} of the work of kinds that were measured"
    )
    if not model.calibrated:
        _say(model.provenance)
    if estimate.unknown_kinds:
        _say(f"never measured: {', '.join(estimate.unknown_kinds)}")
    return 0


def front(arguments: argparse.Namespace) -> int:
    from objectives.trial_record import read_study
    from trial_runner.front.table import front_records, front_rows, print_front
    from trial_runner.study.objectives import open_configured, stored_objectives

    config = _config(arguments)
    study = open_configured(config)
    objectives = stored_objectives(config, study)
    members = front_records(read_study(study), config.device.latency_budget_ms, objectives)
    if arguments.json:
        _say(json.dumps(front_rows(members, objectives), indent=2))
    else:
        print_front(members, config.device.latency_budget_ms, _console(), objectives)
    return 0


def measure(arguments: argparse.Namespace) -> int:
    from trial_runner.cli.measure_command import measure_study
    from trial_runner.front.table import print_front

    config, members, objectives = measure_study(arguments, _say)
    print_front(members, config.device.latency_budget_ms, _console(), objectives)
    return 0


def export(arguments: argparse.Namespace) -> int:
    from objectives.trial_record import note_afterwards, read_study
    from trial_runner.front.export_job import export_trial
    from trial_runner.front.exporter import export_order
    from trial_runner.front.table import front_records
    from trial_runner.study.objectives import open_configured, stored_objectives

    config = _config(arguments)
    paths = StudyPaths(config.study.output_dir)
    study = open_configured(config)
    records = read_study(study)
    if arguments.trial is None:
        chosen = front_records(records, config.device.latency_budget_ms, stored_objectives(config, study))
        if not chosen:
            raise UserError("no finished trial keeps the budget: there is nothing to export. Launch the study first.")
    else:
        chosen = [_trial(records, arguments.trial)]
        if not chosen[0].complete:
            state = chosen[0].outcome or chosen[0].state
            raise UserError(
                f"trial {arguments.trial} was not trained to the end ({state}). Choose one of `paretoseg front`."
            )
    for record in chosen:
        folder = arguments.out / paths.bundle(record.number).name if arguments.out else None
        bundle = export_trial(export_order(config, paths, record, folder))
        if folder is None:
            note_afterwards(study, record.number, bundle=str(bundle), export_error=None)
        _say(str(bundle))
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    from trial_runner.evaluate import evaluate as run_evaluation

    result = run_evaluation(
        arguments.network, split=arguments.split, root=arguments.data, kind=arguments.kind, robust=arguments.robust
    )
    if arguments.json:
        _say(json.dumps(result.to_dict(), indent=2))
        return 0
    for name, iou in result.class_iou.items():
        _say(f"{name:<24} {'absent' if iou is None else format(iou, '.3f')}")
    _say(
        f"mIoU {result.miou:.4f}, Dice by image {result.dice:.4f}, pixel accuracy {result.pixel_accuracy:.4f} "
        f"on {result.images} images of {result.data} {result.split}"
        + ("" if result.lpcvc_score is None else f", LPCVC score {result.lpcvc_score:.4g}")
    )
    for name, miou in (result.corruption_miou or {}).items():
        _say(f"{name:<24} {miou:.3f}")
    if result.robust_miou is not None:
        _say(f"mIoU on corrupted images {result.robust_miou:.4f}")
    return 0


def refit(arguments: argparse.Namespace) -> int:
    from objectives.trial_record import read_study
    from trial_runner.refit import refit as run_refit
    from trial_runner.study.objectives import open_configured

    config = _config(arguments)
    study = open_configured(config)
    record = _trial(read_study(study), arguments.trial)
    result = run_refit(
        config,
        StudyPaths(config.study.output_dir),
        record,
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        say=_mutter if arguments.json else _say,
    )
    _say(json.dumps(result.to_dict(), indent=2) if arguments.json else result.summary)
    return 0


def report(arguments: argparse.Namespace) -> int:
    from trial_runner.front.report import write_study_report
    from trial_runner.study.objectives import open_configured

    config = _config(arguments)
    study = open_configured(config)
    _say(write_study_report(config, study, StudyPaths(config.study.output_dir)).as_uri())
    return 0
