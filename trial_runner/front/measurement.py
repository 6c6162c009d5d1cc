"""Measurement of the front after the search: here, or on the board of a DEVICE.yaml."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import optuna

from dashboards.text import interval, milliseconds
from exports import add_measurement, read_bundle
from hw_latency_model import Device, LatencyModel, Measurement, MeasurementStore, get_device, measure_bundle
from hw_latency_model.board.device_config import DeviceConfig, load_device
from hw_latency_model.board.networks import BoardMeasured, GivenNetwork, measure_networks
from hw_latency_model.file_names import STORE_FILE
from hw_latency_model.local.calibration import subject_of
from hw_latency_model.local.device import DEVICES
from hw_latency_model.local.measure import FRONT_SETTINGS
from hw_latency_model.model.custom import CustomLatencyModel
from objectives.trial_record import TrialRecord, store_later_facts
from search_spaces import open_space
from search_spaces._common.errors import UserError
from search_spaces.candidate import Precision
from search_spaces.describe import network_name
from trial_runner.config.study import StudyConfig

Say = Callable[[str], None]
Models = Mapping[Precision, LatencyModel | CustomLatencyModel]

_SLOW = 1.15
_REPEATS = 2
_PAUSE_S = 2.0
_NOTHING_TO_MEASURE = "nothing is left to measure: the front's members are measured, or not exported yet"


def measure_after_launch(
    config: StudyConfig,
    study: optuna.Study,
    records: Sequence[TrialRecord],
    models: Models,
    say: Say,
) -> None:
    """Measure a launch's front where the device is reachable, on ``device.board`` or here; else print how to."""
    board = config.device.board
    if board is None:
        measure_front(config, study, records, models, say)
        return
    try:
        found = measure_front_on_board(config, study, records, load_device(board), say)
    except UserError as error:
        say(f"the front is not measured, its predictions stand: {error}")
        return
    if found.kit is not None:
        say(carry(found.kit))


def carry(kit: Path) -> str:
    """Return the instructions for an offline measurement kit."""
    return (
        f"kit: {kit}: carry it to the board, run `sh run.sh` there, carry results.jsonl back and run "
        "`paretoseg measure STUDY.yaml --board DEVICE.yaml --results PATH`"
    )


def measure_front(
    config: StudyConfig,
    study: optuna.Study,
    records: Iterable[TrialRecord],
    models: Models,
    say: Say,
    *,
    repeat: bool = False,
) -> int:
    """Measure the exported, not yet measured records on the study's device, each in its own precision; return their number.

    With ``repeat`` records with a measurement are measured again.

    A reference network measured in turns with each shows whether the machine runs at its calibrated speed. If it is slower, the
    measurement is repeated twice; the fastest is kept and its slowdown printed. Measurements are added to the store beside the
    precision's latency model, which is updated with them: later proposals are predicted better, while trials keep their
    estimate. For a device that cannot be measured from here a line is printed.
    """
    todo = _to_measure(records, repeat)
    if not todo:
        say(_NOTHING_TO_MEASURE)
        return 0
    if config.device.name not in DEVICES:
        say(
            f"the front is not measured: {config.device.name} cannot be reached from here, its predictions stand. With the board at "
            "hand: paretoseg measure STUDY.yaml --board DEVICE.yaml"
        )
        return 0
    measured: dict[Precision, list[Measurement]] = {}
    devices: dict[Precision, Device] = {}
    for record in todo:
        assert record.bundle is not None
        precision = _precision(config, record)
        if precision not in devices:
            devices[precision] = get_device(config.device.name, precision)
        device, model = devices[precision], models[precision]
        subject = _subject(config, record)
        reference_ms = model.quality.reference_ms if isinstance(model, LatencyModel) else math.inf
        measurement = _at_calibrated_speed(Path(record.bundle) / "model.onnx", device, reference_ms, subject=subject)
        measurement = replace(measurement, family=str(record.params.get("family", "")))
        measured.setdefault(precision, []).append(measurement)
        slowdown = measurement.reference_ms / reference_ms
        _note(study, record, measurement, slowdown, say)
    for precision, found in measured.items():
        model = models[precision]
        if isinstance(model, CustomLatencyModel):  # it learns from nothing
            continue
        _teach(config.device.model_path(precision), model, found)
        of = f" of {precision}" if len(models) > 1 else ""
        say(f"the latency model{of} has learnt from {len(found)} measured network{'' if len(found) == 1 else 's'}")
    return len(todo)


def measure_front_on_board(
    config: StudyConfig,
    study: optuna.Study,
    records: Iterable[TrialRecord],
    board: DeviceConfig,
    say: Say,
    *,
    results: Path | None = None,
    repeat: bool = False,
) -> BoardMeasured:
    """Measure the exported, not yet measured records on a board, in the board's precision; called again, it resumes.

    Measurements are stored with each trial, in its bundle and in the board's store, and update its model.

    Args:
        config, study, records: of the networks.
        board: the device, see ``load_device``.
        say: called with each line of progress.
        results: read these, carried from the board, instead of measuring.
        repeat: measure records with a measurement again.

    Raises:
        UserError: the board is not of the study's kind, or something is to be put right there; what was measured is kept.
    """
    device = board.device
    if device.profile_name != config.device.name:
        raise UserError(
            f"the study is for {config.device.name}, the board is a {device.profile_name}. Give the DEVICE.yaml of a "
            f"{config.device.name}, or name it there as device.profile."
        )
    open_ones = _to_measure(records, repeat)
    groups: dict[str, list[TrialRecord]] = {}
    for record in open_ones:
        if _precision(config, record) == device.precision:
            groups.setdefault(_subject(config, record), []).append(record)
    networks = [_given(subject, group[0]) for subject, group in groups.items()]
    others = len(open_ones) - sum(map(len, groups.values()))
    if others:
        say(f"{others} of another precision than {device.precision} are left: they need a DEVICE.yaml of their own")
    if not networks:
        say(_NOTHING_TO_MEASURE)
        return BoardMeasured({}, {}, None, None)
    again = [subject for subject, group in groups.items() if all(record.measurement for record in group)]
    found = measure_networks(board, networks, results=results, progress=say, repeat=again)
    for subject, group in groups.items():
        for record in group:
            if subject in found.measurements:
                if record.measurement is not None and _same(record.measurement, found.measurements[subject]):
                    continue
                _note(study, record, found.measurements[subject], 1.0, say)
            elif subject in found.failed:
                say(f"trial {record.number}: not measured: {found.failed[subject]}")
    if found.model is not None:
        say(f"the latency model {board.model_path} has learnt from them")
        if board.model_path != config.device.model_path(device.precision):
            say(
                f"the study predicts by {config.device.model_path(device.precision)}: set device.latency_model to the board's own"
            )
    return found


def _given(subject: str, record: TrialRecord) -> GivenNetwork:
    assert record.bundle is not None
    label = f"trial {record.number}, {network_name(record.params)}"
    return GivenNetwork(subject, Path(record.bundle) / "model.onnx", str(record.params.get("family", "")), label)


def _to_measure(records: Iterable[TrialRecord], repeat: bool) -> list[TrialRecord]:
    return [record for record in records if record.bundle and (repeat or record.measured_ms is None)]


def _same(stored: Measurement, found: Measurement) -> bool:
    """Return True for a board's result that is stored already."""
    return (stored.started_at, stored.latency_ms_p50) == (found.started_at, found.latency_ms_p50)


def _precision(config: StudyConfig, record: TrialRecord) -> Precision:
    assert record.candidate is not None
    return config.precision_of(record.candidate)


def _subject(config: StudyConfig, record: TrialRecord) -> str:
    assert record.bundle is not None and record.candidate is not None
    space = open_space(config.space)
    return subject_of(space, record.candidate, len(read_bundle(Path(record.bundle)).class_names))


def _note(study: optuna.Study, record: TrialRecord, measurement: Measurement, slowdown: float, say: Say) -> None:
    """Store a measurement with its trial and in its bundle, and print it."""
    assert record.bundle is not None
    store_later_facts(study, record.number, measurement=measurement)
    add_measurement(Path(record.bundle), measurement.to_dict(kernel_shares=True))
    say(
        f"trial {record.number}: measured {milliseconds(measurement.latency_ms_p50)} ms, "
        f"predicted {milliseconds(record.latency_ms)} ms {interval(record)}"
        + (f"; the machine was {slowdown:.2f} times slower than when calibrated" if slowdown > _SLOW else "")
    )


def _teach(model_path: Path, model: LatencyModel, measured: Sequence[Measurement]) -> None:
    with MeasurementStore(model_path.with_name(STORE_FILE)) as store:
        for measurement in measured:
            store.add(measurement, protocol=asdict(FRONT_SETTINGS))
    model.update(measured).save(model_path)


def _at_calibrated_speed(path: Path, device: Device, reference_ms: float, *, subject: str) -> Measurement:
    best = measure_bundle(path, device, subject=subject)
    for _ in range(_REPEATS):
        if best.reference_ms <= _SLOW * reference_ms:
            break
        time.sleep(_PAUSE_S)
        best = min(
            best, measure_bundle(path, device, subject=subject), key=lambda measurement: measurement.reference_ms
        )
    return best
