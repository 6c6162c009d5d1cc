"""A study's first networks: spread over the latency budget, and none that the time left does not suffice for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from driving import driver_of, records_of

from hw_latency_model import LatencyEstimate
from objectives.trial_score import TrialScore
from search_spaces import SearchSpace, get_space, open_space
from search_spaces.candidate import Candidate
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.search.budget import training_seconds
from trial_runner.search.driver import StudyDriver
from trial_runner.search.initial_design import stratified_by_latency
from trial_runner.training.trial_spec import Progress, TrialSpec

BUDGET_MS = 6.0


class LatencyByArea(LatencyConstraint):
    """Latency grows with the image's area and the width; dense networks have twice the MACs at the same latency."""

    def __init__(self, space: SearchSpace) -> None:
        self._space, self.budget_ms = space, BUDGET_MS

    def estimate(self, candidate: Candidate) -> LatencyEstimate:
        height, width = self._space.input_hw(candidate)
        ms = 1e-4 * height * width * float(candidate.params["width"])
        return LatencyEstimate(latency_ms=ms, low_ms=0.9 * ms, high_ms=1.1 * ms, coverage=1.0)

    def macs(self, candidate: Candidate) -> float:
        dense = 2.0 if str(candidate.params["family"]).startswith("resnet") else 1.0
        return dense * 1e6 * self.estimate(candidate).latency_ms


@pytest.fixture
def space() -> SearchSpace:
    return get_space("encoder_decoder", {})


def test_they_cover_the_budget_fastest_first_with_much_arithmetic_and_different_families(space: SearchSpace):
    gate = LatencyByArea(space)
    chosen = stratified_by_latency(space, gate, 6, seed=1)
    latencies = [gate.estimate(candidate).latency_ms for candidate in chosen]
    assert latencies == sorted(latencies) and latencies[-1] <= BUDGET_MS
    assert latencies[0] < BUDGET_MS / 10 and latencies[-1] > BUDGET_MS / 2
    families = [str(candidate.params["family"]) for candidate in chosen]
    assert len(set(families)) == len(families)
    assert sum(family.startswith("resnet") for family in families) >= 2
    assert chosen == stratified_by_latency(space, gate, 6, seed=1)
    assert chosen != stratified_by_latency(space, gate, 6, seed=2)
    rates = [float(candidate.params["learning_rate"]) for candidate in chosen]
    assert len(set(rates)) == len(rates)
    assert all(5e-4 * 20 ** (1 / 3) <= rate <= 5e-4 * 20 ** (2 / 3) for rate in rates)


def test_a_budget_that_nothing_keeps_gives_none(space: SearchSpace):
    gate = LatencyByArea(space)
    gate.budget_ms = 1e-3
    assert stratified_by_latency(space, gate, 6, seed=1) == []


@pytest.fixture
def config(write_study: Callable[..., Path]) -> StudyConfig:
    overrides = [
        "space.widths=[0.25, 0.5, 0.75, 1.0]",
        "search.trials=12",
        "search.start=spread",
        "search.start_with_default=true",
        "search.sampler=random",
    ]
    return load_config(write_study(epochs=3, rungs=[]), overrides)


def start(config: StudyConfig) -> StudyDriver:
    return driver_of(config, LatencyByArea(open_space(config.space)))


def train(driver: StudyDriver, spec: TrialSpec, seconds_per_ms: float = 10.0) -> None:
    space = open_space(spec.config.space)
    seconds = seconds_per_ms * LatencyByArea(space).estimate(spec.candidate).latency_ms * spec.epochs
    for epoch in range(1, spec.epochs + 1):
        score = TrialScore(0.1, epoch, spec.epochs, 1000, 100, seconds * epoch / spec.epochs, (0.1,))
        driver.progress(spec.number, Progress(epoch, 0.1, tuple((e, 0.1) for e in range(1, epoch + 1)), score))
    driver.finish(spec.number)


def test_a_study_asks_for_them_first_once_and_after_the_default_network(config: StudyConfig):
    driver = start(config)
    default = open_space(config.space).default()
    first = driver.ask()
    assert first is not None and first.candidate.id == default.id
    train(driver, first)
    second = driver.ask()
    assert second is not None
    train(driver, second)
    driver.requeue_running()
    waiting = sum(record.outcome is None for record in records_of(config))
    again = start(config)
    assert sum(record.outcome is None for record in records_of(config)) == waiting > 0
    third = again.ask()
    assert third is not None and third.candidate.id not in (first.candidate.id, second.candidate.id)


def test_what_cannot_be_trained_in_the_time_left_is_not_begun(config: StudyConfig, monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr("trial_runner.search.budget.time.monotonic", lambda: now)
    search = config.search.model_copy(update={"time_budget_minutes": 10.0, "start": "sampler", "trials": 100})
    driver = start(config.model_copy(update={"search": search}))
    for _ in range(4):
        spec = driver.ask()
        assert spec is not None
        train(driver, spec, seconds_per_ms=1000.0)
    now += 597.0
    assert driver.ask() is None
    assert driver.ended == "the time budget of 10 minutes is spent"
    late = [record for record in records_of(config) if record.outcome == "refused"]
    assert late and all("of the time budget are left" in (record.reason or "") for record in late)


def test_the_time_of_a_training_follows_the_latency(config: StudyConfig):
    driver = start(config)
    assert training_seconds(records_of(config), 2.0, 3) is None
    for _ in range(4):
        spec = driver.ask()
        assert spec is not None
        train(driver, spec)
    seconds = training_seconds(records_of(config), 2.0, 3)
    assert seconds is not None and 60.0 <= seconds <= 90.0
