"""Measurement of the front after the search: here, or on the board of a DEVICE.yaml."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import optuna

from dashboards.text import interval, milliseconds
from exports import add_measurement, read_bundle
from exports.bundle.ladder import kept_in_fp32
from hw_latency_model import Device, LatencyModel, Measurement, MeasurementStore, get_device, measure_bundle
from hw_latency_model.board.device_config import DeviceConfig
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


def carry(kit: Path, command: str = "measure") -> str:
    """Return the instructions for an offline kit, whose results ``paretoseg COMMAND`` reads."""
    results = "results.jsonl" if command == "measure" else "the folder"
    return (
        f"kit: {kit}: carry it to the board, run `sh run.sh` there, carry {results} back and run "
        f"`paretoseg {command} STUDY.yaml --board DEVICE.yaml --results PATH`"
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
        note_measurement(study, record, measurement, slowdown, say)
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
    chosen = board_trials(config, _to_measure(records, repeat), board, say)
    groups: dict[str, list[TrialRecord]] = {}
    for subject, record in chosen.subjects:
        groups.setdefault(subject, []).append(record)
    networks = [chosen.given(subject, group[0]) for subject, group in groups.items()]
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
                note_measurement(study, record, found.measurements[subject], 1.0, say)
            elif subject in found.failed:
                say(f"trial {record.number}: not measured: {found.failed[subject]}")
    taught(config, board, found.model, say)
    return found


@dataclass(frozen=True)
class BoardTrials:
    """Exported trials that run in a board's precision, each with its subject in the board's store."""

    subjects: Sequence[tuple[str, TrialRecord]]

    def given(self, subject: str, record: TrialRecord) -> GivenNetwork:
        """Return the network of a trial as the board's session takes it."""
        assert record.bundle is not None
        label, family = f"trial {record.number}, {network_name(record.params)}", str(record.params.get("family", ""))
        keep = kept_in_fp32(read_bundle(Path(record.bundle)).manifest)
        return GivenNetwork(subject, Path(record.bundle) / "model.onnx", family, label, keep)


def board_trials(config: StudyConfig, records: Iterable[TrialRecord], board: DeviceConfig, say: Say) -> BoardTrials:
    """Return the exported trials that a board runs in its precision; print how many need another one.

    Raises:
        UserError: the board is not of the study's kind, or a bundle is damaged.
    """
    device = board.device
    if device.profile_name != config.device.name:
        raise UserError(
            f"the study is for {config.device.name}, the board is a {device.profile_name}. Give the DEVICE.yaml of a "
            f"{config.device.name}, or name it there as device.profile."
        )
    exported = [record for record in records if record.bundle]
    fitting = [record for record in exported if _precision(config, record) == device.precision]
    if len(fitting) < len(exported):
        others = len(exported) - len(fitting)
        say(f"{others} of another precision than {device.precision} are left: they need a DEVICE.yaml of their own")
    return BoardTrials([(_subject(config, record), record) for record in fitting])


def taught(config: StudyConfig, board: DeviceConfig, model: LatencyModel | None, say: Say) -> None:
    """Print which latency model learnt from new measurements of a board, where one did."""
    if model is None:
        return
    say(f"the latency model {board.model_path} has learnt from them")
    study_model = config.device.model_path(board.device.precision)
    if board.model_path != study_model:
        say(f"the study predicts by {study_model}: set device.latency_model to the board's own")


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


def note_measurement(
    study: optuna.Study, record: TrialRecord, measurement: Measurement, slowdown: float, say: Say
) -> None:
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
