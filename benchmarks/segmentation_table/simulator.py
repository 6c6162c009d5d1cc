"""Replay of a search on the table: the product's own driver, samplers and rules, with simulated workers and a simulated clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from benchmarks.segmentation_table.curves import Answer, TableCurves, Work
from objectives.hypervolume import hypervolume_2d
from objectives.trial_score import TrialScore
from search_spaces import SearchSpace
from search_spaces.candidate import Candidate
from trial_runner.config.study import KNOWN_COST, StudyConfig
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.search.candidate_costs import CandidateCosts
from trial_runner.search.driver import StudyDriver
from trial_runner.search.early_stopping import MultiObjectiveASHA
from trial_runner.search.samplers import StudyFacts, make_sampler
from trial_runner.study.objectives import objectives_of
from trial_runner.study.paths import StudyPaths
from trial_runner.study.stored_space import StoredSpace, distributions_of
from trial_runner.training.stage_cache import shared_stages
from trial_runner.training.trial_spec import Progress, TrialSpec

BYTES_PER_WEIGHT = 4


@dataclass(frozen=True)
class Point:
    """A network that a simulated study had after so many seconds; ``continued`` by a final training."""

    seconds: float
    miou: float
    latency_ms: float
    continued: bool = False


@dataclass
class Job:
    """A simulated training on a worker."""

    spec: TrialSpec
    answer: Answer
    epoch: int = 0
    cached_epochs: int = 0
    trained_s: float = 0.0


@dataclass(frozen=True)
class Trained:
    """State of a training that has ended: mIoU, epochs in all, and seconds of an epoch."""

    miou: float
    epochs: int
    epoch_s: float


class Landscape:
    """Costs and learning curves of the candidates of a space; shared by many replays, which then predict no network twice."""

    def __init__(self, space: SearchSpace, gate: LatencyConstraint, curves: TableCurves) -> None:
        self.space, self.gate, self.curves = space, gate, curves

    def work(self, candidate: Candidate) -> Work:
        return {
            "macs": self.gate.macs(candidate),
            "parameters": self.gate.weight_bytes(candidate) / BYTES_PER_WEIGHT,
        }

    def train(self, candidate: Candidate, seed: int) -> Answer:
        return self.curves.train(candidate.params, self.work(candidate), seed)


class SimulatedBackend:
    """Executes trials on simulated workers, each event in the order of the simulated clock.

    Args:
        seed: of the trainings.
        stage_cache: a training takes over the epochs that it shares with an earlier one.
    """

    exports_inline = True

    def __init__(self, landscape: Landscape, workers: int, seed: int, *, stage_cache: bool = False) -> None:
        self._landscape, self._workers, self._seed = landscape, workers, seed
        self._stages: set[str] | None = set() if stage_cache else None
        self._order = itertools.count()
        self._trained: dict[int, Trained] = {}
        self._jobs: dict[int, Job] = {}
        self.now_s = 0.0
        self.busy_s = 0.0
        self.points: list[Point] = []
        self.epochs = 0

    def clock(self) -> float:
        """Seconds since the start."""
        return self.now_s

    @property
    def trainings(self) -> int:
        """Trainings begun, final ones included."""
        return len(self._jobs)

    def run(self, driver: StudyDriver) -> None:
        """Run trials until the driver has no more and none is running."""
        events: list[tuple[float, int, Job]] = []
        while True:
            while len(events) < self._workers and (spec := driver.ask()) is not None:
                if spec.number not in self._jobs:  # else it was stopped, and is resumed
                    self._jobs[spec.number] = self._begin(spec)
                self._schedule(events, self._jobs[spec.number])
            if not events:
                return
            self.now_s, _, job = heapq.heappop(events)
            if self._report(driver, job):
                self._end(driver, job)
            else:
                self._schedule(events, job)

    def _answer(self, spec: TrialSpec) -> Answer:
        if spec.continues is None:
            return self._landscape.train(spec.candidate, self._seed)
        base = self._trained[spec.continues.number]
        key = [self._seed, dict(spec.candidate.params)]
        return self._landscape.curves.continue_training(
            base.miou, base.epochs, base.epoch_s, spec.continues.epochs, key
        )

    def _begin(self, spec: TrialSpec) -> Job:
        """A job that begins after the epochs that its training shares with an earlier one; they count as trained, as in a checkpoint."""
        answer, known = self._answer(spec), self._stages or ()
        shared = max((stage.epoch for stage in shared_stages(spec) if stage.key in known), default=0)
        return Job(spec, answer, shared, shared, float(answer.seconds[:shared].sum()))

    def _schedule(self, events: list[tuple[float, int, Job]], job: Job) -> None:
        cost_s = float(job.answer.seconds[job.epoch])
        self.busy_s += cost_s
        job.trained_s += cost_s
        heapq.heappush(events, (self.now_s + cost_s, next(self._order), job))

    def _report(self, driver: StudyDriver, job: Job) -> bool:
        """Report the epoch that has just ended; True if the training ends with it."""
        job.epoch += 1
        self.epochs += 1
        miou, total = float(job.answer.miou[job.epoch - 1]), len(job.answer.miou)
        work = self._landscape.work(job.spec.candidate)
        score = TrialScore(
            miou,
            job.epoch,
            total,
            int(work["macs"]),
            int(work["parameters"]),
            job.trained_s,
            (),
            cached_epochs=job.cached_epochs,
        )
        if self._stages is not None:
            self._stages |= {stage.key for stage in shared_stages(job.spec) if stage.epoch == job.epoch}
        curve = tuple((at + 1, float(value)) for at, value in enumerate(job.answer.miou[: job.epoch]))
        return driver.progress(job.spec.number, Progress(job.epoch, miou, curve, score)) or score.final

    def _end(self, driver: StudyDriver, job: Job) -> None:
        miou = float(job.answer.miou[job.epoch - 1])
        latency_ms = self._landscape.gate.estimate_many([job.spec.candidate])[0].latency_ms
        earlier = self._trained[job.spec.continues.number].epochs if job.spec.continues else 0
        self._trained[job.spec.number] = Trained(miou, earlier + job.epoch, job.trained_s / job.epoch)
        if job.epoch == len(job.answer.miou):  # a stopped training is not on the front
            self.points.append(Point(self.now_s, miou, latency_ms, job.spec.continues is not None))
        driver.finish(job.spec.number)


def replay(
    config: StudyConfig, landscape: Landscape, workers: int, seed: int, rule: MultiObjectiveASHA | None = None
) -> SimulatedBackend:
    """Run a study on simulated workers until its budget is spent; return the backend with what it found.

    Args:
        config: with a time budget; its storage should be in memory. Stages are shared unless its cache is switched off.
        seed: of the search and of its trainings.
        rule: of early stopping, instead of the product's.
    """
    changed = config.model_copy(update={"study": config.study.model_copy(update={"seed": seed})})
    objectives, stored = objectives_of(changed), StoredSpace(landscape.space, [])
    facts = None
    if changed.search.sampler == KNOWN_COST:
        known = CandidateCosts(landscape.space, landscape.gate, objectives).known()
        facts = StudyFacts(distributions_of(landscape.space), known, objectives, changed.training.epochs)
    sampler = make_sampler(changed.search, seed, facts, stored)
    study = optuna.create_study(directions=[item.direction for item in objectives], sampler=sampler)
    backend = SimulatedBackend(landscape, workers, seed, stage_cache=changed.compute.stage_cache_gb > 0)
    driver = StudyDriver(
        changed,
        study,
        landscape.space,
        landscape.gate,
        StudyPaths(Path("/nonexistent")),
        clock=backend.clock,
        make_rule=MultiObjectiveASHA if rule is None else lambda search, objectives: rule,
    )
    backend.run(driver)
    return backend


def hypervolumes(points: Sequence[Point], budget_ms: float, times_s: Sequence[float]) -> list[float]:
    """Hypervolume of the networks that a study had at each of the times; reference: mIoU 0 and the latency budget."""
    found = []
    for time_s in times_s:
        have = [(-item.miou, item.latency_ms) for item in points if item.seconds <= time_s]
        found.append(hypervolume_2d(np.array(have).reshape(-1, 2), (0.0, budget_ms)))
    return found
