"""Schema of the attributes that paretoseg stores in an Optuna study; the only module that contains their names.

Optuna refuses to write to a finished trial, so later facts (bundle, measured latency) are stored as attributes of the study, under
the trial's number.

A study that was created by an earlier release has all of them as user attributes, and continues so. In later ones the attributes that
are JSON objects or lists are system attributes, which optuna-dashboard does not show; the user attributes of a trial are single short
values for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypedDict, Unpack

import optuna
from optuna.trial import FrozenTrial

from hw_latency_model.types import LatencyEstimate, Measurement
from objectives.optuna_private import StudyStorage
from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate
from search_spaces.describe import architecture_words

CANDIDATE = "candidate"
ESTIMATE = "latency"
BLIND_ESTIMATE = "latency_before_measurement"
TARGETS = "targets"
COSTS = "costs"
SCORE = "score"
RUNG_SCORES = "readings"
OUTCOME = "outcome"
REASON = "reason"
DUPLICATE_OF = "reused_from"
PARENT_TRIAL = "continues"
PARENT_EPOCHS = "continues_epochs"
NODE = "node"
RESUMED_AT = "resumed_at"
TEACHER = "teacher"
RELATIVE = "inherits"
CHANNELS = "channels"
CHECKPOINT_SHA256 = "checkpoint_sha256"
CONFIG = "config"
_AFTERWARDS = "trial:{number}"
HIDDEN = frozenset(
    {
        CHECKPOINT_SHA256,
        CANDIDATE,
        ESTIMATE,
        BLIND_ESTIMATE,
        TARGETS,
        COSTS,
        SCORE,
        RUNG_SCORES,
        TEACHER,
        RELATIVE,
        CHANNELS,
    }
)
"""Attributes of a trial whose values are JSON objects or lists."""
_SYSTEM = "paretoseg:"
_LAYOUT = f"{_SYSTEM}layout"
_LONGEST_WORDS = 80


class State(StrEnum):
    """Optuna's state of a trial, by its name."""

    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


class Outcome(StrEnum):
    """Result of a trial, with the word stored in the database."""

    FINISHED = "finished"
    STOPPED = "stopped"
    INFEASIBLE = "refused"
    FAILED = "failed"
    DUPLICATE = "reused"


@dataclass(frozen=True)
class CostEstimate:
    """Predicted cost with its interval, in the unit of the objective's name; ``low == high`` for exact counts."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}

    @classmethod
    def from_dict(cls, value: Mapping[str, float]) -> CostEstimate:
        """Inverse of ``to_dict``."""
        return cls(**value)


@dataclass(frozen=True)
class EarlierTrial:
    """Finished trial of the study that another one needs: its distillation teacher, or the relative whose weights it starts from.

    Attributes:
        number: its trial number.
        candidate: its network.
    """

    number: int
    candidate: Candidate

    def to_dict(self) -> dict[str, Any]:
        return {"number": self.number, "candidate": self.candidate.to_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> EarlierTrial:
        """Inverse of ``to_dict``."""
        return cls(int(value["number"]), Candidate.from_dict(value["candidate"]))


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study, read from its database.

    Attributes:
        number: Optuna's trial number.
        state: Optuna's state of the trial.
        candidate: evaluated network; None for a trial that paretoseg did not create, or that died before its params were stored.
        outcome: result of the trial; None while it runs or waits.
        reason: explanation of an outcome other than finished.
        estimate: latency predicted before training; None without a prediction.
        score: last evaluation; for a trial stopped early, the evaluation it was stopped at.
        curve: (epoch, val_miou) of every evaluation, by epoch.
        measurement: latency measured on the device after training; None where not measured.
        bundle: folder of the export; None where not exported.
        export_error: reason why the export failed.
        engine: the parity ladder's step of the network's engine on the device, as in its bundle's manifest; None where none was built.
        engine_int8: the ladder's step of the engine of its INT8 variant; None where none was built.
        parity_failed: the export failed because a form of the network is not the network that was trained.
        choices: ``budget_ms`` and ``probability`` of each choice of the network for deployment, and ``target`` where that is not the
            study's first one; one for each target at most.
        duplicate_of: number of the earlier trial with the same candidate, whose result this one repeats.
        parent_trial: number of the finished trial whose weights this final training starts from.
        parent_epochs: epochs of the final training.
        duration_s: wall seconds from start to end; None while it runs.
        teacher: finished trial that this one is distilled from.
        relative: finished trial whose weights this one started from as far as they fit.
        channels: channels that pruning keeps in each group of coupled layers, by group; None for a uniform prune ratio.
        costs: other costs predicted before training, by objective name.
        superseded: True where the bundle was exported for the front, which the network has left since; False where it is a member;
            None where it was not exported for the front.
        targets: latency predicted for the further targets of the study, by their name; empty in a study of one target.
        rung_scores: (epoch, score) at the rungs, by epoch.
        node: machine that it was last trained on, where that was not its driver's; else None.
        checkpoint_sha256: SHA-256 of the checkpoint that the score is of; None in studies of earlier releases.
        resumed_at: epoch of the rung at which it was stopped before it was resumed, the last one; None where it never was.
        started_at: local time of its start, its last one where it was requeued; None while it waits.
        blind_estimate: estimate made before the network was measured, where another model has predicted it again since; else None.
    """

    number: int
    state: State
    candidate: Candidate | None
    outcome: Outcome | None
    reason: str | None
    estimate: LatencyEstimate | None
    score: TrialScore | None
    curve: tuple[tuple[int, float], ...]
    measurement: Measurement | None
    bundle: str | None
    export_error: str | None
    duplicate_of: int | None
    parent_trial: int | None
    parent_epochs: int | None
    duration_s: float | None
    choices: tuple[Mapping[str, float | str], ...] = ()
    teacher: EarlierTrial | None = None
    relative: EarlierTrial | None = None
    channels: Mapping[str, int] | None = None
    costs: Mapping[str, CostEstimate] = field(default_factory=dict)
    targets: Mapping[str, LatencyEstimate] = field(default_factory=dict)
    superseded: bool | None = None
    rung_scores: tuple[tuple[int, TrialScore], ...] = ()
    node: str | None = None
    checkpoint_sha256: str | None = None
    resumed_at: int | None = None
    engine: Mapping[str, Any] | None = None
    engine_int8: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    parity_failed: bool = False
    blind_estimate: LatencyEstimate | None = None

    @property
    def judged_estimate(self) -> LatencyEstimate | None:
        """Estimate that a measurement is compared with: the one made before it, as later models may have learnt from it."""
        return self.blind_estimate or self.estimate

    @property
    def chosen(self) -> Mapping[str, float | str] | None:
        """The first of ``choices``; None for a trial that is not chosen."""
        return self.choices[0] if self.choices else None

    @property
    def latency_ms(self) -> float | None:
        """Predicted latency in ms; None without a prediction."""
        return self.estimate.latency_ms if self.estimate else None

    @property
    def measured_ms(self) -> float | None:
        """Median latency in ms, measured on the device; None where not measured."""
        return self.measurement.latency_ms_p50 if self.measurement else None

    @property
    def val_miou(self) -> float | None:
        """Validation mIoU of the last evaluation, 0 to 1; None before the first one."""
        return self.score.val_miou if self.score else None

    @property
    def unfit(self) -> bool:
        """True for a trial that is no winner whatever its scores: on the device it is not the network that was trained."""
        return self.parity_failed or self.engine_failed

    @property
    def engine_failed(self) -> bool:
        """True for a trial whose engine on the device is outside the limits of the parity ladder."""
        return self.engine is not None and self.engine.get("passed") is False

    @property
    def precision(self) -> str | None:
        """Precision on the device: the candidate's own, else that of its score; None before the first evaluation."""
        chosen = self.candidate.precision if self.candidate else None
        return chosen or (self.score.precision if self.score else None)

    @property
    def float_miou(self) -> float | None:
        """Validation mIoU before quantization; None where not evaluated."""
        return self.score.float_miou if self.score else None

    @property
    def val_dice(self) -> float | None:
        """LPCVC's mean Dice on the validation split, 0 to 1; None where not evaluated."""
        return self.score.val_dice if self.score else None

    @property
    def robust_miou(self) -> float | None:
        """Mean mIoU over the study's corruptions, 0 to 1; None where not evaluated."""
        return self.score.robust_miou if self.score else None

    def at(self, epoch: int) -> TrialRecord | None:
        """Record with the score of an earlier epoch, or None without one; epochs that are not rungs have mIoU alone."""
        reading = dict(self.rung_scores).get(epoch)
        if reading is None:
            miou = dict(self.curve).get(epoch)
            if miou is None:
                return None
            reading = TrialScore(miou, epoch, max(epoch, 1), 0, 0, 0.0, ())
        return replace(self, score=reading)

    @property
    def paused(self) -> bool:
        """True for a trial that was stopped at a rung and may be resumed in the same launch."""
        return self.state == State.RUNNING and self.outcome == Outcome.STOPPED

    @property
    def complete(self) -> bool:
        """True for a trial that may be on the front: trained to the end, not a duplicate, score and latency known."""
        return (
            self.state == State.COMPLETE
            and self.score is not None
            and self.estimate is not None
            and self.duplicate_of is None
        )

    @property
    def params(self) -> dict[str, Any]:
        """Values of the candidate by dimension; empty without a candidate."""
        return dict(self.candidate.params) if self.candidate else {}


def estimate_facts(record: TrialRecord) -> dict[str, float | None]:
    """Predicted latency under the keys of ``front.csv`` and a bundle's facts: in ms, and the coverage as a share."""
    estimate = record.estimate
    return {
        "latency_ms": estimate.latency_ms if estimate else None,
        "latency_low_ms": estimate.low_ms if estimate else None,
        "latency_high_ms": estimate.high_ms if estimate else None,
        "latency_coverage": estimate.coverage if estimate else None,
    }


def read_record(trial: FrozenTrial, study_attrs: Mapping[str, Any]) -> TrialRecord:
    """Record of a trial, with the facts that its study stores under the trial's number. Missing attributes become None."""
    attrs = trial_attributes(trial)
    later = study_attrs.get(_AFTERWARDS.format(number=trial.number), {})
    return TrialRecord(
        number=trial.number,
        state=State(trial.state.name),
        candidate=Candidate.from_dict(attrs[CANDIDATE]) if CANDIDATE in attrs else None,
        outcome=_outcome(attrs.get(OUTCOME)),
        reason=attrs.get(REASON),
        estimate=LatencyEstimate.from_dict(attrs[ESTIMATE]) if attrs.get(ESTIMATE) else None,
        score=TrialScore.from_dict(attrs[SCORE]) if attrs.get(SCORE) else None,
        curve=tuple(sorted((int(step), float(value)) for step, value in trial.intermediate_values.items())),
        measurement=Measurement.from_dict(later["measurement"]) if later.get("measurement") else None,
        bundle=later.get("bundle"),
        export_error=later.get("export_error"),
        choices=_choices(later),
        superseded=later.get("superseded"),
        duplicate_of=attrs.get(DUPLICATE_OF),
        parent_trial=attrs.get(PARENT_TRIAL),
        parent_epochs=attrs.get(PARENT_EPOCHS),
        duration_s=trial.duration.total_seconds() if trial.duration else None,
        teacher=EarlierTrial.from_dict(attrs[TEACHER]) if attrs.get(TEACHER) else None,
        relative=EarlierTrial.from_dict(attrs[RELATIVE]) if attrs.get(RELATIVE) else None,
        channels=attrs.get(CHANNELS),
        targets={name: LatencyEstimate.from_dict(value) for name, value in attrs.get(TARGETS, {}).items()},
        costs={name: CostEstimate.from_dict(cost) for name, cost in attrs.get(COSTS, {}).items()},
        rung_scores=tuple((int(item["epoch"]), TrialScore.from_dict(item)) for item in attrs.get(RUNG_SCORES, ())),
        node=attrs.get(NODE),
        checkpoint_sha256=attrs.get(CHECKPOINT_SHA256),
        resumed_at=attrs.get(RESUMED_AT),
        engine=later.get("engine"),
        engine_int8=later.get("engine_int8"),
        started_at=trial.datetime_start,
        parity_failed=bool(later.get("parity_failed") and later.get("export_error")),
        blind_estimate=LatencyEstimate.from_dict(attrs[BLIND_ESTIMATE]) if attrs.get(BLIND_ESTIMATE) else None,
    )


def _choices(later: Mapping[str, Any]) -> tuple[Mapping[str, float | str], ...]:
    """Choices for deployment: that for the first target, then those for others. Earlier releases stored one of any target."""
    first = later.get("chosen")
    return (*([first] if first else []), *(later.get("chosen_targets") or {}).values())


def trial_attributes(trial: FrozenTrial) -> dict[str, Any]:
    """Attributes of a trial by name, wherever its study stores them."""
    return {**trial.user_attrs, **_of_ours(trial.system_attrs)}


def study_attributes(study: optuna.Study) -> dict[str, Any]:
    """Attributes of a study by name, wherever it stores them."""
    return {**study.user_attrs, **_of_ours(StudyStorage(study).system_attrs())}


def store_study_attribute(study: optuna.Study, name: str, value: Any) -> None:
    """Store a JSON object or list with a study, out of sight where it hides them."""
    if hides_objects(study):
        StudyStorage(study).set_system_attr(_SYSTEM + name, value)
    else:
        study.set_user_attr(name, value)


def hide_objects(study: optuna.Study) -> None:
    """Make a new study store JSON objects and lists as system attributes; one of an earlier release continues as it is."""
    if CONFIG not in study.user_attrs:
        StudyStorage(study).set_system_attr(_LAYOUT, 2)


def hides_objects(study: optuna.Study) -> bool:
    """Return True for a study that stores JSON objects and lists as system attributes."""
    return int(StudyStorage(study).system_attrs().get(_LAYOUT, 1)) >= 2


def own_attributes(system_attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Those system attributes that paretoseg stores, by their full keys."""
    return {key: value for key, value in system_attrs.items() if key.startswith(_SYSTEM)}


def system_name(name: str) -> str:
    """Return the key of the system attribute that stores an attribute of this name."""
    return _SYSTEM + name


def short_facts(name: str, value: Any) -> dict[str, str | int | float]:
    """Summarise an attribute of `HIDDEN` as single short values, which a dashboard can show, sort and filter."""
    if name == CANDIDATE:
        words = architecture_words(value["params"])
        return {"network": words if len(words) <= _LONGEST_WORDS else words[: _LONGEST_WORDS - 1] + "…"}
    if name == ESTIMATE:
        ms, low, high = (float(f"{value[key]:.4g}") for key in ("latency_ms", "low_ms", "high_ms"))
        return {"predicted_latency_ms": ms, "predicted_latency_interval_ms": f"{low:g} to {high:g}"}
    if name == TARGETS:
        return {
            f"predicted_latency_ms_{target}": float(f"{estimate['latency_ms']:.4g}")
            for target, estimate in value.items()
        }
    if name == COSTS:
        return {f"predicted_{cost}": float(f"{estimate['value']:.4g}") for cost, estimate in value.items()}
    if name == SCORE:
        facts: dict[str, str | int | float] = {"miou": round(value["val_miou"], 4), "epochs": value["epoch"]}
        facts |= {"precision": value.get("precision", "fp32")} if value["macs"] else {}
        return facts | ({"macs": value["macs"], "parameters": value["params"]} if value["macs"] else {})
    named = {TEACHER: "distilled_from", RELATIVE: "inherits_from"}
    return {named[name]: value["number"]} if name in named else {}


def _of_ours(system_attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(_SYSTEM): value for key, value in own_attributes(system_attrs).items()}


def _outcome(word: str | None) -> Outcome | None:
    return Outcome(word) if word in set(Outcome) else None


def read_study(study: optuna.Study, output_dir: Path | None = None) -> list[TrialRecord]:
    """Records of all trials of a study, by number.

    Args:
        output_dir: the study's folder, which stored paths of bundles are relative to; that of its last launch by default.
    """
    attrs = study_attributes(study)
    folder = output_dir or _launched_in(attrs)
    return [_with_bundle_in(folder, read_record(trial, attrs)) for trial in study.get_trials(deepcopy=False)]


def read_trial(study: optuna.Study, number: int, output_dir: Path | None = None) -> TrialRecord | None:
    """Record of one trial, as in `read_study`, without reading the others; None where the study has no such trial."""
    storage, attrs = StudyStorage(study), study_attributes(study)
    try:
        trial = storage.trial(storage.trial_id(number))
    except KeyError:
        return None
    return _with_bundle_in(output_dir or _launched_in(attrs), read_record(trial, attrs))


def _launched_in(attrs: Mapping[str, Any]) -> Path | None:
    section = attrs.get(CONFIG, {}).get("study", {})
    return Path(section["output_dir"]) if "output_dir" in section else None


def _with_bundle_in(folder: Path | None, record: TrialRecord) -> TrialRecord:
    """Return the record with the path of its bundle in a study's folder, which may have been moved since the export."""
    if record.bundle is None or folder is None:
        return record
    stored = Path(record.bundle)
    if stored.is_absolute():  # outside the study's folder, or written by a release that stored no relative paths
        moved = folder / stored.parent.name / stored.name
        return replace(record, bundle=str(moved)) if moved.is_dir() and not stored.is_dir() else record
    return replace(record, bundle=str(folder / stored))


class LaterFacts(TypedDict, total=False):
    """Facts of a trial that are known only after it ended."""

    bundle: str
    export_error: str | None
    parity_failed: bool
    measurement: Measurement
    engine: Mapping[str, Any]
    engine_int8: Mapping[str, Any]
    chosen: Mapping[str, float | str] | None
    chosen_targets: Mapping[str, Mapping[str, float | str]]
    superseded: bool | None


def store_later_facts(study: optuna.Study, number: int, **facts: Unpack[LaterFacts]) -> None:
    """Store facts of a finished trial beside those stored before.

    Raises:
        ValueError: a name that `LaterFacts` does not have.
    """
    unknown = set(facts) - set(LaterFacts.__annotations__)
    if unknown:
        raise ValueError(f"unknown facts of a finished trial: {sorted(unknown)}")
    key = _AFTERWARDS.format(number=number)
    stored: dict[str, Any] = {**study_attributes(study).get(key, {}), **facts}
    if "measurement" in facts:
        stored["measurement"] = facts["measurement"].to_dict(kernel_shares=True)
    store_study_attribute(study, key, stored)


def set_constraints(study: optuna.Study, trial_id: int, violations: Sequence[float]) -> None:
    """Store a running trial's constraint violations: positive where a constraint is broken, else zero or negative.

    Written as Optuna's older list, because optuna-dashboard 0.21 does not read the key of ``Trial.set_constraint``, and writing both
    would count the violation twice. Every trial needs a row before `Study.tell`, all of one length, for `GPSampler`.

    Raises:
        ValueError: a violation is NaN.
    """
    if any(violation != violation for violation in violations):
        raise ValueError("a constraint's violation must not be NaN")
    StudyStorage(study).set_constraints(trial_id, violations)
