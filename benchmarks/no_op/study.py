"""A study of the default space on the bundled model of the Jetson Nano, whose trials have made-up learning curves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw_latency_model.bundled.load import load_bundled
from objectives.trial_record import hide_objects
from objectives.trial_score import TrialScore
from search_spaces import open_space
from trial_runner.config.load import study_of
from trial_runner.config.study import KNOWN_COST, StudyConfig
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.search.candidate_costs import CandidateCosts
from trial_runner.search.driver import StudyDriver
from trial_runner.search.samplers import StudyFacts, make_sampler
from trial_runner.study.objectives import objectives_of, open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.study.patience import Patience
from trial_runner.study.stored_space import StoredSpace, distributions_of
from trial_runner.training.trial_spec import Progress, TrialSpec

CLASSES = 11
BUDGET_MS = 6.0


def study_config(url: str, folder: Path, sampler: str, trials: int, epochs: int) -> StudyConfig:
    """Return a study with one rung and the database at ``url``."""
    values = {
        "study": {"name": f"no-op-{sampler}", "storage": url, "output_dir": str(folder), "seed": 1},
        "data": {"kind": "synthetic"},
        "space": {"name": "encoder_decoder"},
        "device": {
            "name": "jetson-nano",
            "latency_model": "bundled",
            "precision": "fp16",
            "latency_budget_ms": BUDGET_MS,
        },
        "training": {"epochs": epochs},
        "search": {
            "trials": trials,
            "sampler": sampler,
            "early_stopping": {"rungs_epochs": [epochs // 2], "reduction_factor": 3.0, "min_trials": 4},
        },
    }
    return study_of(values, folder)


def open_driver(config: StudyConfig) -> tuple[StudyDriver, LatencyConstraint]:
    """Open a driver on a new study, as a launch does; its sampler knows the costs where it can use them."""
    space = open_space(config.space)
    gate = LatencyConstraint(space, CLASSES, load_bundled("jetson-nano", "fp16"), BUDGET_MS)
    objectives, stored = objectives_of(config), StoredSpace(space, [])
    facts = None
    if config.search.sampler == KNOWN_COST:
        known = CandidateCosts(space, gate, objectives).known()
        facts = StudyFacts(distributions_of(space), known, objectives, config.training.epochs)
    sampler = make_sampler(config.search, config.study.seed, facts, stored)
    hide_objects(open_configured(config, create=True))
    study = open_configured(config, sampler=sampler, patience=Patience(60.0, str))
    return StudyDriver(config, study, space, gate, StudyPaths(config.study.output_dir)), gate


@dataclass
class NoOpTrial:
    """A trial that trains nothing: its mIoU grows with the latency of its network, with noise.

    Attributes:
        number: of the trial.
        final: mIoU after the last epoch.
        epochs: number of epochs.
        epoch: epochs done.
    """

    number: int
    final: float
    epochs: int
    epoch: int = 0

    @classmethod
    def of(cls, spec: TrialSpec, gate: LatencyConstraint, epochs: int) -> NoOpTrial:
        """Return the trial of an order."""
        noise = np.random.default_rng(spec.number).normal(0.0, 0.02)
        return cls(spec.number, 0.3 + 0.1 * math.log1p(gate.estimate(spec.candidate).latency_ms) + noise, epochs)

    def step(self) -> Progress:
        """Return the report of the next epoch."""
        self.epoch += 1
        curve = tuple((epoch, self.final * (1.0 - 0.5 / epoch)) for epoch in range(1, self.epoch + 1))
        miou = curve[-1][1]
        score = TrialScore(miou, self.epoch, self.epochs, 10**8, 10**6, 30.0 * self.epoch, (miou,) * CLASSES)
        return Progress(self.epoch, miou, curve, score)
