"""Engines of a study's trials on a board: built, measured, and checked for parity with torch on validation images."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import torch

from dashboards.text import milliseconds, miou
from exports import add_engine, get_profile, read_bundle, read_network
from exports.bundle.checksums import sha256_of
from exports.bundle.fp16 import FP16_AGREEMENT, MORE_IMAGES
from exports.bundle.int8 import INT8_FILE
from exports.bundle.ladder import EngineRun, engine_step
from exports.onnx.runtime import FloatArray
from hw_latency_model.board.device_config import INT8, DeviceConfig, load_device
from hw_latency_model.board.engines import BuiltEngine, EnginesBuilt, GivenImages, build_engines
from hw_latency_model.board.networks import GivenNetwork
from objectives.data import load_arrays
from objectives.data.base import Normalisation
from objectives.precision_pairs import slow_int8_engines
from objectives.trial_record import TrialRecord, read_study, store_later_facts
from search_spaces._common.errors import UserError
from trial_runner.config.study import StudyConfig
from trial_runner.front.measurement import (
    BoardTrials,
    Models,
    board_trials,
    carry,
    measure_front,
    note_measurement,
    taught,
)
from trial_runner.search.final_training import spec_of
from trial_runner.study.paths import StudyPaths
from trial_runner.study_data import require_same_data, survey_data
from trial_runner.training.batches import normalise
from trial_runner.training.trial import open_split

Say = Callable[[str], None]


@dataclass(frozen=True)
class FrontEngines:
    """Engines of trials.

    Attributes:
        built: the ladder's step of each trial with an engine, by trial number.
        failed: by trial number, the reason for a missing engine or missing logits.
        kit: folder for offline transfer to the board; None if none is waiting.
        int8: the ladder's step of each trial with an engine of its INT8 variant; one that is missing or fails makes no trial fail.
    """

    built: Mapping[int, Mapping[str, Any]]
    failed: Mapping[int, str]
    kit: Path | None
    int8: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def measure_after_launch(
    config: StudyConfig,
    study: optuna.Study,
    records: Sequence[TrialRecord],
    models: Models,
    say: Say,
) -> None:
    """Build and measure a launch's front on ``device.board``, or measure it here where the device can; else print how to."""
    board = config.device.board
    if board is None:
        measure_front(config, study, records, models, say)
        return
    try:
        found = build_front_engines(config, study, records, load_device(board), say)
    except UserError as error:
        say(f"the front is not measured, its predictions stand: {error}")
        return
    if found.kit is not None:
        say(carry(found.kit, "build"))


def build_front_engines(
    config: StudyConfig,
    study: optuna.Study,
    records: Iterable[TrialRecord],
    board: DeviceConfig,
    say: Say,
    *,
    results: Path | None = None,
    repeat: bool = False,
    workspace_mb: int | None = None,
) -> FrontEngines:
    """Build the engines of the exported records on a board, measure them, and compare their logits with torch's.

    Each result is stored with its trial and in its bundle. After them the engines of INT8 variants are built where bundles hold one and
    the device has INT8, and INT8 that is not faster is told. Records whose present network has an engine of this device are left out;
    called again after an interruption, it resumes.

    Args:
        config, study, records, board, say, results: as of `measure_front_on_board`.
        repeat: build, measure and check records with an engine again.
        workspace_mb: memory for building an engine.

    Raises:
        UserError: the board is not of the study's kind, the data changed, a bundle is damaged, or something is to be put right on the
            board; what was built is kept.
    """
    chosen = board_trials(config, records, board, say)
    of_int8 = results is not None and _carried_precision(results) == INT8
    rounds = [] if of_int8 else _rounds(chosen.subjects, lambda record: repeat or not _has_engine(record, board))
    int8_rounds = _rounds(_variants(chosen, board), lambda record: repeat or not _has_engine(record, board, INT8))
    if not rounds and not int8_rounds:
        say("no engine is left to build: the chosen trials have theirs, or are not exported yet")
        return FrontEngines({}, {}, None)
    paths = StudyPaths(config.study.output_dir)
    data = survey_data(config)
    require_same_data(study, paths, data.info, data.surveys)
    builder = _Builder(config, study, board, say, chosen, None if of_int8 else results, workspace_mb)
    found = _build_rounds(builder, rounds, repeat)
    if found.kit is not None or not int8_rounds:
        return found
    variants = replace(builder, results=results if of_int8 else None, precision=INT8)
    int8: dict[int, Mapping[str, Any]] = {}
    for trials in int8_rounds:
        engines = variants.build(trials, config.export.parity_images, again=repeat)
        int8 |= engines.built
        if engines.kit is not None:
            return replace(found, int8=int8, kit=engines.kit)
    return replace(found, int8=int8)


def _build_rounds(builder: _Builder, rounds: Sequence[Mapping[str, TrialRecord]], repeat: bool) -> FrontEngines:
    """Build the engines of each round; those that few images cannot decide on run more."""
    config, say = builder.config, builder.say
    built: dict[int, Mapping[str, Any]] = {}
    failed: dict[int, str] = {}
    for trials in rounds:
        found = builder.build(trials, config.export.parity_images, again=repeat)
        unsure = {key: record for key, record in trials.items() if _undecided(found.built.get(record.number, {}))}
        built, failed = {**built, **found.built}, {**failed, **found.failed}
        if unsure and found.kit is None:
            say(f"{config.export.parity_images} images are too few to decide on the mIoU of an engine: more are run")
            found = builder.build(unsure, MORE_IMAGES, again=True)
            built, failed = {**built, **found.built}, {**failed, **found.failed}
        if found.kit is not None:
            return FrontEngines(built, failed, found.kit)
    return FrontEngines(built, failed, None)


def _undecided(step: Mapping[str, Any]) -> bool:
    """True for an engine that exceeds the limit of mIoU alone, on fewer images than could decide."""
    if step.get("passed") is not False or step["max_rel_error"] is None:
        return False
    close = step["max_rel_error"] <= step["tolerance"] and step["argmax_agreement"] >= FP16_AGREEMENT
    return bool(close and step["images"] < min(MORE_IMAGES, step.get("split_images", 0)))


def _rounds(
    subjects: Iterable[tuple[str, TrialRecord]], wanted: Callable[[TrialRecord], bool]
) -> list[dict[str, TrialRecord]]:
    """Wanted trials by subject; those that share a subject, as networks of one shape do, in one round each."""
    rounds: list[dict[str, TrialRecord]] = []
    for subject, record in subjects:
        if not wanted(record):
            continue
        free = next((trials for trials in rounds if subject not in trials), None)
        if free is None:
            rounds.append(free := {})
        free[subject] = record
    return rounds


def _has_engine(record: TrialRecord, board: DeviceConfig, precision: str = "") -> bool:
    """True for a trial with an engine of its present network; with ``int8`` of its INT8 variant."""
    known = (record.engine_int8 if precision == INT8 else record.engine) or {}
    path = _onnx_path(record, precision)
    same = known.get("device") == board.device.name and path.is_file() and known.get("onnx_sha256") == sha256_of(path)
    return same and (precision == INT8 or not _undecided(known))


def _onnx_path(record: TrialRecord, precision: str) -> Path:
    assert record.bundle is not None
    return Path(record.bundle) / (INT8_FILE if precision == INT8 else "model.onnx")


def _variants(chosen: BoardTrials, board: DeviceConfig) -> list[tuple[str, TrialRecord]]:
    """Trials whose bundle holds an INT8 variant; none where the device has no INT8."""
    if not get_profile(board.device.profile_name).int8:
        return []
    return [(subject, record) for subject, record in chosen.subjects if _onnx_path(record, INT8).is_file()]


def _carried_precision(results: Path) -> str | None:
    """Precision of the job list in a folder carried from a board; None where there is none to read."""
    try:
        jobs = json.loads((results / "jobs.json").read_text())
    except (OSError, ValueError):
        return None
    return str(jobs.get("precision")) if isinstance(jobs, dict) else None


@dataclass(frozen=True)
class _Images:
    """The first validation images of a trial, as the board and as torch take them, with their labels.

    Attributes:
        split_images: number of images of the whole split.
    """

    given: GivenImages
    labels: Sequence[Any]
    split_images: int


@dataclass(frozen=True)
class _Builder:
    """Builds engines on one board; attributes as of `build_front_engines`. ``precision``: ``int8`` for those of INT8 variants."""

    config: StudyConfig
    study: optuna.Study
    board: DeviceConfig
    say: Say
    chosen: BoardTrials
    results: Path | None
    workspace_mb: int | None
    precision: str = ""

    @property
    def _int8(self) -> bool:
        return self.precision == INT8

    def _given(self, subject: str, record: TrialRecord) -> GivenNetwork:
        given = self.chosen.given(subject, record)
        if not self._int8:
            return given
        return replace(given, path=_onnx_path(record, INT8), label=f"{given.label}, INT8", keep_fp32=())

    def build(self, trials: Mapping[str, TrialRecord], images: int, *, again: bool) -> FrontEngines:
        """Build the engines of trials, by subject, and run up to so many images through each."""
        found = build_engines(
            self.board.in_int8() if self._int8 else self.board,
            [self._given(subject, record) for subject, record in trials.items()],
            {subject: self._images(record, images).given for subject, record in trials.items()},
            results=self.results,
            progress=self.say,
            repeat=list(trials) if again else (),
            workspace_mb=self.workspace_mb,
        )
        built: dict[int, Mapping[str, Any]] = {}
        failed: dict[int, str] = {}
        for subject, record in trials.items():
            engine = found.engines.get(subject)
            if engine is not None and engine.logits is not None:
                built[record.number] = self._note(record, engine, engine.logits)
            elif engine is not None or found.measured.kit is None:
                failed[record.number] = _reason(found, subject, engine)
                kind = "INT8 engine" if self._int8 else "engine"
                self.say(f"trial {record.number}: no {kind}: {failed[record.number]}")
        taught(self.config, self.board, found.measured.model, self.say)
        return FrontEngines(built, failed, found.measured.kit)

    def _images(self, record: TrialRecord, most: int) -> _Images:
        assert record.bundle is not None
        bundle = read_bundle(Path(record.bundle))
        spec = spec_of(self.config, StudyPaths(self.config.study.output_dir), record)
        data = open_split(self.config.data, "val", self.config.study.seed)
        val = load_arrays(data, bundle.input_hw, cache_dir=spec.cache_dir)
        count = min(most, len(val.images))
        given = GivenImages(val.images[:count], data.info.mean, data.info.std)
        return _Images(given, [val.labels[index] for index in range(count)], len(val.images))

    def _note(self, record: TrialRecord, engine: BuiltEngine, logits: FloatArray) -> Mapping[str, Any]:
        """Compare an engine with torch, store the result with its trial and in its bundle, and print it."""
        assert record.bundle is not None
        folder, measurement = Path(record.bundle), engine.outputs.measurement
        bundle, images = read_bundle(folder), self._images(record, engine.outputs.images)
        runtime = str(measurement.fingerprint.get("runtime", ""))
        facts = {
            "device": self.board.device.name,
            "precision": INT8 if self._int8 else self.board.device.precision,
            "runtime": runtime,
            "fingerprint": dict(measurement.fingerprint),
            "onnx_sha256": sha256_of(_onnx_path(record, self.precision)),
            "latency_ms": measurement.latency_ms_p50,
            "build_s": measurement.build_s,
            "plan_bytes": engine.outputs.plan_bytes,
            "measured_at": measurement.started_at,
            "compared_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "split_images": images.split_images,
        }
        if self._int8:
            facts |= self._float_facts(record)
        normalisation = Normalisation(images.given.mean, images.given.std)
        pixels = normalise(images.given.pixels, torch.device("cpu"), normalisation).numpy()
        exact = engine.outputs.provider == "CPUExecutionProvider"
        try:
            step = engine_step(
                read_network(bundle.checkpoint_path), EngineRun(pixels, images.labels, logits, exact, facts, self._int8)
            )
        except ValueError as error:
            raise UserError(
                f"the engine of trial {record.number} does not fit its network: {error}. Export the trial again, then build again."
            ) from error
        if self._int8:
            store_later_facts(self.study, record.number, engine_int8=step)
            add_engine(folder, step)
            self._tell(record, step, "INT8 engine")
            for pair in slow_int8_engines([replace(record, engine_int8=step)]):
                self.say(pair.sentence())
            return step
        if record.measurement is None or record.measurement.started_at != measurement.started_at:
            note_measurement(self.study, record, measurement, 1.0, self.say)
        store_later_facts(self.study, record.number, engine=step)
        add_engine(folder, step)
        self._tell(record, step, "engine")
        return step

    def _float_facts(self, record: TrialRecord) -> dict[str, Any]:
        """Latency of the trial's own engine on this device; empty where there is none."""
        stored = next(item for item in read_study(self.study) if item.number == record.number).engine or {}
        if stored.get("device") != self.board.device.name:
            return {}
        return {"float_ms": stored["latency_ms"], "float_precision": stored["precision"]}

    def _tell(self, record: TrialRecord, step: Mapping[str, Any], kind: str) -> None:
        delta = "" if step["miou_delta"] is None else f", {100 * step['miou_delta']:+.2f} points against torch"
        verdict = "" if step["passed"] else f"; it FAILS its check: {step['reason']}"
        self.say(
            f"trial {record.number}: {kind} by {step['runtime']}, {milliseconds(step['latency_ms'])} ms: "
            f"mIoU {miou(step['miou'])} on {step['images']} images{delta}, "
            f"{step['argmax_agreement']:.3%} of the pixels alike{verdict}"
        )


def _reason(found: EnginesBuilt, subject: str, engine: BuiltEngine | None) -> str:
    if engine is not None:
        return engine.reason
    return found.measured.failed.get(subject, "the board gave no result; run the same command again")
