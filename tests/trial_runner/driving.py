"""Drive a study without a latency model: latencies that follow the width, and the driver of a fresh start."""

from __future__ import annotations

from typing import Any

from hw_latency_model import LatencyEstimate
from objectives.trial_record import TrialRecord, read_study
from search_spaces import open_space
from search_spaces.candidate import Candidate
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.search.driver import StudyDriver
from trial_runner.search.samplers import make_sampler
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths


class LatencyByWidth(LatencyConstraint):
    """Latency of 10 ms times the width, give or take a tenth: at 6 ms the widths up to 0.5 pass. The rule is the product's own."""

    def __init__(self, budget_ms: float) -> None:
        self.budget_ms = budget_ms

    def estimate(self, candidate: Candidate) -> LatencyEstimate:
        ms = 10.0 * float(candidate.params["width"])
        return LatencyEstimate(latency_ms=ms, low_ms=0.9 * ms, high_ms=1.1 * ms, coverage=1.0)


def driver_of(config: StudyConfig, gate: Any = None, *, seed: int = 0, **parts: Any) -> StudyDriver:
    """A driver as a fresh start of the study makes it; ``gate`` is by default `LatencyByWidth` with the study's budget."""
    study = open_configured(config, create=True, sampler=make_sampler(config.search, seed))
    space = open_space(config.space)
    chosen = gate or LatencyByWidth(config.device.latency_budget_ms)
    return StudyDriver(config, study, space, chosen, StudyPaths(config.study.output_dir), **parts)


def records_of(config: StudyConfig) -> list[TrialRecord]:
    return read_study(open_configured(config))
