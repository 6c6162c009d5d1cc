"""Stopped trials that are resumed: one record, one curve, under restarts, and from the checkpoint in a real launch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driving import driver_of, records_of
from optuna.trial import TrialState

from objectives.trial_record import TrialRecord
from objectives.trial_score import TrialScore
from trial_runner.backends.inprocess import InProcessBackend
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.search.driver import StudyDriver
from trial_runner.search.samplers import without_curves
from trial_runner.study.objectives import open_configured
from trial_runner.training.trainer import Trainer
from trial_runner.training.trial_spec import Progress

EPOCHS = 4


@pytest.fixture
def config(write_study: Callable[..., Path]) -> StudyConfig:
    stopping = ["promote=true", "reduction_factor=4.0", "min_trials=2"]
    overrides = [f"search.early_stopping.{item}" for item in stopping]
    overrides += ["search.sampler=random", "space.widths=[0.5]", "search.trials=6"]
    return load_config(write_study(epochs=EPOCHS, rungs=(1,)), overrides)


def train(driver: StudyDriver, mious: dict[int, float], asked: list[int], *, trials: int = 100) -> None:
    """Train what the driver orders, from the first epoch or, for a resumed trial, from the rung on."""
    while len(asked) < trials and (spec := driver.ask()) is not None:
        number = spec.number
        for epoch in range(1 if number not in asked else 2, EPOCHS + 1):
            miou = mious.get(number, 0.1) * epoch
            curve = tuple((at, mious.get(number, 0.1) * at) for at in range(1, epoch + 1))
            score = TrialScore(miou, epoch, EPOCHS, 1000, 100, 1.0 * epoch, (miou,))
            if driver.progress(number, Progress(epoch, miou, curve, score)):
                break
        asked.append(number)
        driver.finish(number)


def test_a_stopped_trial_is_resumed_with_its_number_and_ends_as_one_record(config: StudyConfig):
    ended: list[TrialRecord] = []
    driver, asked = driver_of(config, on_finished=ended.append), list[int]()
    train(driver, {0: 0.2, 1: 0.15}, asked)
    assert asked.count(1) == 2, "stopped behind trial 0, and resumed once one of four continues is two of five"
    assert asked.index(1) < len(asked) - 1 - asked[::-1].index(1)
    assert len(set(asked)) == 6, "a resumed trial is none of the budget's"
    driver.requeue_running()
    records = records_of(config)
    resumed = records[1]
    assert len(records) == 6 and resumed.complete and resumed.reason is None and resumed.resumed_at == 1
    assert [epoch for epoch, _ in resumed.curve] == [1, 2, 3, 4]
    assert [record.outcome for record in ended if record.number == 1] == ["stopped", "finished"]
    assert all(record.state == "PRUNED" for record in records if record.outcome == "stopped")


def test_without_promotion_it_stays_stopped(config: StudyConfig):
    stopping = config.search.early_stopping.model_copy(update={"promote": False})
    off = config.model_copy(update={"search": config.search.model_copy(update={"early_stopping": stopping})})
    asked: list[int] = []
    train(driver_of(off), {0: 0.2, 1: 0.15}, asked)
    assert sorted(asked) == list(range(6)) and records_of(off)[1].state == "PRUNED"


def test_a_resumed_trial_is_not_stopped_again_at_its_rung(config: StudyConfig):
    driver, asked = driver_of(config), list[int]()
    train(driver, {0: 0.2, 1: 0.15}, asked, trials=5)
    spec = driver.ask()
    assert spec is not None and spec.number == 1
    score = TrialScore(0.15, 1, EPOCHS, 1000, 100, 1.0, (0.15,))
    assert not driver.progress(1, Progress(1, 0.15, ((1, 0.15),), score)), "the repeated report of its checkpoint"
    driver.finish(1, "the worker died without a message")
    record = records_of(config)[1]
    assert (record.state, record.outcome, record.reason) == ("FAIL", "failed", "the worker died without a message")


def test_samplers_see_a_paused_trial_as_a_pruned_one(config: StudyConfig):
    driver, asked = driver_of(config), list[int]()
    train(driver, {0: 0.2, 1: 0.15}, asked, trials=2)
    study = open_configured(config)
    assert study.trials[1].state == TrialState.RUNNING and records_of(config)[1].outcome == "stopped"
    assert without_curves(study).get_trials()[1].state == TrialState.PRUNED


def test_an_interrupted_launch_keeps_stopped_trials_for_the_next_one(config: StudyConfig):
    driver, asked = driver_of(config), list[int]()
    train(driver, {0: 0.2, 1: 0.15}, asked, trials=3)
    driver.requeue_running()
    assert records_of(config)[1].paused
    train(driver_of(config), {0: 0.2, 1: 0.15}, asked)
    assert asked.count(1) == 2 and records_of(config)[1].complete


def with_stopping(config: StudyConfig, **changes: Any) -> StudyConfig:
    stopping = config.search.early_stopping.model_copy(update=changes)
    search = config.search.model_copy(update={"early_stopping": stopping, "time_budget_minutes": 60.0})
    return config.model_copy(update={"search": search})


def test_a_trial_of_a_rung_that_is_none_any_more_is_stopped_for_good(config: StudyConfig):
    driver, asked = driver_of(config), list[int]()
    train(driver, {0: 0.2, 1: 0.15}, asked, trials=3)
    driver.requeue_running()
    driver_of(with_stopping(config, rungs_epochs=[3]))
    assert not records_of(config)[1].paused and records_of(config)[1].state == "PRUNED"


def test_a_trial_stopped_at_a_rung_in_time_is_resumed_by_the_next_launch(config: StudyConfig):
    timed = with_stopping(config, rungs_epochs=[], rungs_time_shares=[1.0 / 3600])  # one second, an epoch's
    driver, asked = driver_of(timed), list[int]()
    train(driver, {0: 0.2, 1: 0.15}, asked, trials=3)
    driver.requeue_running()
    assert records_of(timed)[1].paused
    train(driver_of(timed), {0: 0.2, 1: 0.15}, asked)
    assert asked.count(1) == 2 and records_of(timed)[1].complete


def test_there_must_be_time_for_the_rest(config: StudyConfig, monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    search = config.search.model_copy(update={"time_budget_minutes": 1.0})
    driver = driver_of(config.model_copy(update={"search": search}), clock=lambda: now)
    asked: list[int] = []
    train(driver, {0: 0.2, 1: 0.15}, asked, trials=5)
    now = 58.0  # the rest takes three seconds, and a third more
    spec = driver.ask()
    assert spec is None or spec.number != 1


def test_a_launch_continues_the_checkpoint_of_a_resumed_trial(config: StudyConfig, monkeypatch: pytest.MonkeyPatch):
    """Real trainings in process: each epoch of a trial is trained once."""
    trained: list[tuple[str, int]] = []
    original = Trainer._train_epoch

    def note(self: Trainer) -> None:
        trained.append((str(self._spec.folder.name), self.epoch))
        original(self)

    monkeypatch.setattr(Trainer, "_train_epoch", note)
    off = config.model_copy(update={"compute": config.compute.model_copy(update={"stage_cache_gb": 0.0})})
    driver = driver_of(off)
    progress = driver.progress

    def better_first(number: int, told: Progress) -> bool:
        miou = {0: 0.2, 1: 0.15}.get(number, 0.1) * told.epoch
        return progress(number, replace(told, val_miou=miou, score=replace(told.score, val_miou=miou)))

    monkeypatch.setattr(driver, "progress", better_first)
    InProcessBackend().run(driver)
    driver.requeue_running()
    records = records_of(off)
    assert len(trained) == len(set(trained)), "no epoch twice"
    assert records[1].resumed_at == 1
    for record in records:
        epochs = [epoch for folder, epoch in trained if folder == f"{record.number:05d}"]
        assert epochs == list(range(len(epochs))) and len(record.curve) == len(epochs)
        assert not record.resumed_at or record.outcome == "finished"


def test_under_ray_a_resumed_trial_is_another_tune_trial_with_the_same_number(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
):
    ray_tune = pytest.importorskip("trial_runner.backends.ray_tune")
    monkeypatch.setattr(ray_tune, "node_resources", lambda: [{"CPU": 1.0}])
    bridge = ray_tune._Bridge(driver_of(config), config.compute)
    searcher, scheduler = ray_tune._Searcher(bridge, config.compute), ray_tune._Scheduler(bridge)
    mious, numbers = {0: 0.2, 1: 0.15}, list[int]()
    while isinstance(searcher.suggest(name := f"tune{len(numbers)}"), dict):
        number = bridge.numbers[name]
        for epoch in range(2 if number in numbers else 1, EPOCHS + 1):
            miou = mious.get(number, 0.1) * epoch
            curve = tuple((at, mious.get(number, 0.1) * at) for at in range(1, epoch + 1))
            score = TrialScore(miou, epoch, EPOCHS, 1000, 100, 1.0 * epoch, (miou,))
            report = {"progress": json.dumps(Progress(epoch, miou, curve, score).to_dict())}
            if scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), report) == "STOP":
                break
        numbers.append(number)
        searcher.on_trial_complete(name)
    assert numbers.count(1) == 2 and len(records_of(config)) == 6
    resumed = records_of(config)[1]
    assert resumed.complete and [epoch for epoch, _ in resumed.curve] == [1, 2, 3, 4]
