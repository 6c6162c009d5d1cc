"""Inputs of a study's HTML report."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hw_latency_model.types import LatencyEstimate
from objectives.pareto import ParetoFront
from objectives.rung_reliability import Rung
from objectives.trial_record import TrialRecord


@dataclass(frozen=True)
class TargetFront:
    """Front of a study on one of its further targets.

    Attributes:
        target: name of the target.
        records: all trials, with their latency on the target.
        front: Pareto front of ``records``.
        latency_budget_ms: latency budget on the target in ms; None without one.
    """

    target: str
    records: Sequence[TrialRecord]
    front: ParetoFront
    latency_budget_ms: float | None = None


@dataclass(frozen=True)
class WinnerKernels:
    """The trial to deploy, with its estimate by the latency model as it is now and the parts of its kernels."""

    number: int
    estimate: LatencyEstimate


@dataclass(frozen=True)
class RefitSpread:
    """Repeated trainings of a trial's candidate.

    Attributes:
        trial: its number.
        epochs: of each training.
        miou_by_seed: validation mIoU at the end of each training, by its seed.
    """

    trial: int
    epochs: int
    miou_by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Mean mIoU over the seeds."""
        return statistics.fmean(self.miou_by_seed.values())

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (n - 1) of one training; None with one seed."""
        values = list(self.miou_by_seed.values())
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class ReportInputs:
    """Study, trials and front that a report shows.

    Attributes:
        study_name: heading of the page.
        records: all trials of the study.
        front: Pareto front of ``records``; its reference point is stated with the hypervolume.
        class_names: classes of the data set, in the order of ``TrialScore.class_iou``.
        config_yaml: resolved configuration; passwords of URLs in it are hidden.
        device: name of the device of the latencies.
        latency_budget_ms: latency budget in ms; None without one.
        calibration: facts of the latency model by name, for display; the value of ``summary`` is shown as a sentence.
        latency_report: report of the latency model, to link to.
        rungs: at which early stopping compares trials.
        data_name: name of the data set.
        written_at: time stamp; None for the current time.
        target_fronts: fronts on the study's further targets.
        startup_trials: number of first trained trials whose networks were drawn without a model; 0: not known.
        winner: kernels of the most accurate network within the budget; None where they are not known.
        environment: versions and machine of the study, by name.
        refits: repeated trainings of trials.
    """

    study_name: str
    records: Sequence[TrialRecord]
    front: ParetoFront
    class_names: Sequence[str] = ()
    config_yaml: str = ""
    device: str | None = None
    latency_budget_ms: float | None = None
    calibration: Mapping[str, object] | None = None
    latency_report: Path | None = None
    rungs: Sequence[Rung] = ()
    data_name: str | None = None
    written_at: datetime | None = None
    target_fronts: Sequence[TargetFront] = ()
    startup_trials: int = 0
    winner: WinnerKernels | None = None
    environment: Mapping[str, object] = field(default_factory=dict)
    refits: Sequence[RefitSpread] = ()
