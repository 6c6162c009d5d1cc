"""The one schema of what paretoseg writes to, and reads from, an Optuna study. No other module spells an attribute's name.

Optuna refuses to write to a finished trial, so facts learnt afterwards (the bundle, the measured latency) are stored as
attributes of the study, under the trial's number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from objectives.optuna_private import StudyStorage
from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate

CANDIDATE = "candidate"
ESTIMATE = "latency"
COSTS = "costs"
SCORE = "score"
READINGS = "readings"
OUTCOME = "outcome"
REASON = "reason"
REUSED_FROM = "reused_from"
CONTINUES = "continues"
CONTINUES_EPOCHS = "continues_epochs"
TEACHER = "teacher"
CHANNELS = "channels"
_AFTERWARDS = "trial:{number}"

REFUSED = "refused"
STOPPED = "stopped"
DIED = "failed"
REUSED = "reused"
FINISHED = "finished"


@dataclass(frozen=True)
class CostEstimate:
    """What a network will take of the device, in the unit of the objective's name; arithmetic that is exact has no width."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class TrialRecord:
    """A trial as everything downstream sees it.

    Attributes:
        number: Optuna's trial number.
        state: Optuna's state name: COMPLETE, PRUNED, FAIL, RUNNING or WAITING.
        candidate: what was tried; None where the trial was not made by paretoseg or died before its params were known.
        outcome: one of finished, stopped, refused, failed, reused; None while it runs.
        reason: why it was stopped, refused or failed, in words.
        latency_ms, latency_low_ms, latency_high_ms, coverage: the estimate given before training; None without one.
        unknown_kinds: kinds of kernel in the network that the latency model has no measurement of.
        score: the last reading; of a trial that was stopped early, the one it was stopped at.
        curve: (epoch, val_miou) of every reading, by epoch.
        measured_ms: median latency measured on the device afterwards; None where not measured.
        measurement: the whole measurement as a dict (p50, p90, p99, runs, noise).
        bundle: folder of the export; None where not exported.
        export_error: why the export failed.
        reused_from: number of the trial whose result was taken over, for a repeated proposal.
        continues: number of the finished trial whose network this one trains on, for its final training.
        continues_epochs: for so many epochs.
        teacher: number and candidate (as dicts) of the finished trial that this one learns from.
        channels: how many channels of each group of coupled layers pruning keeps; None: the same share of each.
        duration_s: wall seconds from start to end; None while it runs.
        costs: what else was predicted before training, by the objective's name.
        readings: (epoch, score) at the rungs, by epoch.
    """

    number: int
    state: str
    candidate: Candidate | None
    outcome: str | None
    reason: str | None
    latency_ms: float | None
    latency_low_ms: float | None
    latency_high_ms: float | None
    coverage: float | None
    unknown_kinds: tuple[str, ...]
    score: TrialScore | None
    curve: tuple[tuple[int, float], ...]
    measured_ms: float | None
    measurement: Mapping[str, Any] | None
    bundle: str | None
    export_error: str | None
    reused_from: int | None
    continues: int | None
    continues_epochs: int | None
    duration_s: float | None
    teacher: Mapping[str, Any] | None = None
    channels: Mapping[str, int] | None = None
    costs: Mapping[str, CostEstimate] = field(default_factory=dict)
    readings: tuple[tuple[int, TrialScore], ...] = ()

    @property
    def val_miou(self) -> float | None:
        return self.score.val_miou if self.score else None

    @property
    def precision(self) -> str | None:
        """What the network runs in on the device: its candidate's own, or, where the study offers no choice, what it was scored
        in; None before that."""
        chosen = self.candidate.precision if self.candidate else None
        return chosen or (self.score.precision if self.score else None)

    @property
    def float_miou(self) -> float | None:
        """val_miou before the network was brought to its precision; None where that was not read."""
        return self.score.float_miou if self.score else None

    @property
    def val_dice(self) -> float | None:
        return self.score.val_dice if self.score else None

    @property
    def robust_miou(self) -> float | None:
        return self.score.robust_miou if self.score else None

    def at(self, epoch: int) -> TrialRecord | None:
        """The trial as it stood after an epoch; None where nothing was read then. A curve tells mIoU alone."""
        reading = dict(self.readings).get(epoch)
        if reading is None:
            miou = dict(self.curve).get(epoch)
            if miou is None:
                return None
            reading = TrialScore(miou, epoch, max(epoch, 1), 0, 0, 0.0, ())
        return replace(self, score=reading)

    @property
    def complete(self) -> bool:
        """Trained to the end, by itself, with score and latency known: what may stand on the front."""
        return (
            self.state == "COMPLETE"
            and self.score is not None
            and self.latency_ms is not None
            and self.reused_from is None
        )

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.candidate.params) if self.candidate else {}


def read_trial(trial: FrozenTrial, study_attrs: Mapping[str, Any]) -> TrialRecord:
    """A trial and what its study knows of it, as a record. Attributes that are missing become None."""
    attrs = trial.user_attrs
    estimate = attrs.get(ESTIMATE, {})
    score = attrs.get(SCORE)
    after = study_attrs.get(_AFTERWARDS.format(number=trial.number), {})
    measurement = after.get("measurement")
    return TrialRecord(
        number=trial.number,
        state=trial.state.name,
        candidate=Candidate.from_dict(attrs[CANDIDATE]) if CANDIDATE in attrs else None,
        outcome=attrs.get(OUTCOME),
        reason=attrs.get(REASON),
        latency_ms=estimate.get("latency_ms"),
        latency_low_ms=estimate.get("low_ms"),
        latency_high_ms=estimate.get("high_ms"),
        coverage=estimate.get("coverage"),
        unknown_kinds=tuple(estimate.get("unknown_kinds", ())),
        score=TrialScore.from_dict(score) if score else None,
        curve=tuple(sorted((int(step), float(value)) for step, value in trial.intermediate_values.items())),
        measured_ms=measurement["latency_ms_p50"] if measurement else None,
        measurement=measurement,
        bundle=after.get("bundle"),
        export_error=after.get("export_error"),
        reused_from=attrs.get(REUSED_FROM),
        continues=attrs.get(CONTINUES),
        continues_epochs=attrs.get(CONTINUES_EPOCHS),
        duration_s=trial.duration.total_seconds() if trial.duration else None,
        teacher=attrs.get(TEACHER),
        channels=attrs.get(CHANNELS),
        costs={name: CostEstimate(**cost) for name, cost in attrs.get(COSTS, {}).items()},
        readings=tuple((int(item["epoch"]), TrialScore.from_dict(item)) for item in attrs.get(READINGS, ())),
    )


def read_study(study: optuna.Study) -> list[TrialRecord]:
    """All trials of a study by number."""
    attrs = study.user_attrs
    return [read_trial(trial, attrs) for trial in study.get_trials(deepcopy=False)]


def note_afterwards(study: optuna.Study, number: int, **facts: Any) -> None:
    """Add facts to what is known of a finished trial: ``bundle``, ``export_error``, ``measurement``."""
    unknown = set(facts) - {"bundle", "export_error", "measurement"}
    if unknown:
        raise ValueError(f"unknown facts of a finished trial: {sorted(unknown)}")
    key = _AFTERWARDS.format(number=number)
    study.set_user_attr(key, {**study.user_attrs.get(key, {}), **facts})


def set_constraints(study: optuna.Study, trial_id: int, violations: Sequence[float]) -> None:
    """Say by how much a running trial breaks each of its constraints; zero or negative where one holds.

    Written as Optuna's older list: ``Trial.set_constraint`` writes a key that optuna-dashboard 0.21 does not read, and writing both
    would count the violation twice. For every trial, before it is told, and of one length: `GPSampler` wants rows of one length.
    """
    if any(violation != violation for violation in violations):
        raise ValueError("a constraint's violation must not be NaN")
    StudyStorage(study).set_constraints(trial_id, violations)
