"""After the search its best networks are trained on: which, for how long, and that nothing is lost or mixed up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import launching
import numpy as np
import pytest
import torch
from driving import driver_of, records_of

from exports import read_bundle
from hw_latency_model import LatencyEstimate
from objectives.objective import OBJECTIVES
from objectives.rung_reliability import Rung
from objectives.trial_record import Outcome, State, TrialRecord
from objectives.trial_score import TrialScore
from search_spaces import open_space
from search_spaces.candidate import Candidate
from trial_runner.config.load import load_config
from trial_runner.config.study import FinalTrainingSection, StudyConfig
from trial_runner.front.export_job import trained_net
from trial_runner.front.table import front_records
from trial_runner.search.driver import StudyDriver
from trial_runner.search.final_training import FinalTrainings, next_to_continue
from trial_runner.study.objectives import open_configured
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import Continuation, Progress, TrialFailed, TrialSpec

EPOCHS, TRAIN_S = 3, 6.0


@pytest.fixture
def config(write_study: Callable[..., Path]) -> StudyConfig:
    overrides = [
        "search.trials=5",
        "search.sampler=random",
        "search.final_training.members=2",
        "search.final_training.epochs=9",
        "search.start_with_default=true",
    ]
    return load_config(write_study(epochs=EPOCHS, rungs=[1]), overrides)


def report(driver: StudyDriver, spec: TrialSpec, epoch: int) -> bool:
    """A reading whose mIoU grows with the width, so that every width is on the front."""
    miou = 0.1 + 0.5 * float(spec.candidate.params["width"]) + 0.01 * epoch
    score = TrialScore(miou, epoch, spec.epochs, 1000, 100, TRAIN_S * epoch / EPOCHS, (miou,))
    return driver.progress(spec.number, Progress(epoch, miou, tuple((e, miou) for e in range(1, epoch + 1)), score))


def run_all(driver: StudyDriver) -> list[TrialSpec]:
    specs = []
    while (spec := driver.ask()) is not None:
        specs.append(spec)
        for epoch in range(1, spec.epochs + 1):
            if report(driver, spec, epoch):
                break
        driver.finish(spec.number)
    return specs


def test_the_most_accurate_network_is_trained_on_first_and_each_once(config: StudyConfig):
    specs = run_all(driver_of(config))
    assert [spec.continues is not None for spec in specs] == [False] * 5 + [True] * 2
    found = records_of(config)
    searched = [r for r in found if r.complete and r.parent_trial is None]
    finals = [r for r in found if r.parent_trial is not None]
    best = max(searched, key=lambda r: r.val_miou)
    assert finals[0].parent_trial == best.number and finals[0].params == best.params
    assert len({r.parent_trial for r in finals}) == 2
    for final in finals:
        base = found[final.parent_trial]
        assert final.complete and final.score.epochs_total == 9 and len(final.curve) == 9
        assert final.estimate == base.estimate
    front = front_records(found, 20.0)
    assert {r.number for r in finals} <= {r.number for r in front}
    assert not {r.parent_trial for r in finals} & {r.number for r in front}


@pytest.mark.parametrize(
    ("mious", "expected"),
    [({1.0: 0.9, 0.75: 0.89, 0.25: 0.6}, [1.0, 0.25]), ({1.0: 0.9, 0.75: 0.85, 0.25: 0.05}, [1.0, 0.75])],
    ids=["the fast one adds most", "the middle one adds most"],
)
@pytest.mark.parametrize("order", [(1.0, 0.75, 0.25), (0.25, 0.75, 1.0)], ids=["slow first", "fast first"])
def test_the_next_network_is_the_one_that_adds_most_hypervolume(
    write_study: Callable[..., Path], mious: dict[float, float], expected: list[float], order: tuple[float, ...]
):
    overrides = ["space.widths=[0.25, 0.75, 1.0]", "search.sampler=random", "search.final_training.members=2"]
    config = load_config(write_study(epochs=EPOCHS, trials=3, budget_ms=12.0), overrides)
    driver = driver_of(config)
    params = open_space(config.space).default().params
    for width in order:
        open_configured(config).enqueue_trial({**params, "width": width})
    finals = []
    while (spec := driver.ask()) is not None:
        width = float(spec.candidate.params["width"])
        if spec.continues is not None:
            finals.append(width)
        score = TrialScore(mious[width], spec.epochs, spec.epochs, 1000, 100, TRAIN_S, (mious[width],))
        driver.progress(spec.number, Progress(spec.epochs, mious[width], ((spec.epochs, mious[width]),), score))
        driver.finish(spec.number)
    assert finals == expected


def test_the_default_network_is_the_first_proposal(config: StudyConfig):
    spec = driver_of(config).ask()
    assert spec is not None
    default = open_space(config.space).default()
    assert spec.candidate.id == default.id


def test_a_final_training_is_neither_stopped_at_a_rung_nor_a_bar_for_later_trials(config: StudyConfig):
    run_all(driver_of(config))
    more = config.model_copy(update={"search": config.search.model_copy(update={"trials": 6})})
    driver = driver_of(more)
    rule = driver._rule
    assert not {r.number for r in records_of(config) if r.parent_trial is not None} & set(rule._seen[Rung(1), None])


def test_a_launch_cut_off_in_a_final_training_goes_on_with_it(config: StudyConfig):
    driver = driver_of(config)
    while (spec := driver.ask()) is not None and spec.continues is None:
        for epoch in range(1, EPOCHS + 1):
            if report(driver, spec, epoch):
                break
        driver.finish(spec.number)
    assert spec is not None
    report(driver, spec, 4)
    again = driver_of(config).ask()
    assert again is not None
    assert (again.number, again.continues, again.fingerprint) == (spec.number, spec.continues, spec.fingerprint)


def test_a_time_budget_keeps_its_share_and_the_epochs_fit_into_it(config: StudyConfig, monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr("trial_runner.search.budget.time.monotonic", lambda: now)
    search = config.search.model_copy(update={"time_budget_minutes": 1.0, "trials": 50})
    driver = driver_of(config.model_copy(update={"search": search}))
    for _ in range(3):
        spec = driver.ask()
        assert spec is not None and spec.continues is None
        for epoch in range(1, EPOCHS + 1):
            if report(driver, spec, epoch):
                break
        driver.finish(spec.number)
    now += 40.0  # 0.6 of the minute is the search's
    spec = driver.ask()
    assert spec is not None and spec.continues is not None
    epoch_s = TRAIN_S / EPOCHS
    assert 3 <= spec.epochs < 9 and spec.epochs * epoch_s <= 20.0
    assert not report(driver, spec, 1)
    now += 30.0
    assert not report(driver, spec, 2), "a final training runs to its end"


def test_without_time_for_three_epochs_nothing_is_started(config: StudyConfig):
    run_all(driver_of(config))
    base = next(r for r in records_of(config) if r.complete and r.parent_trial is None)
    settings = FinalTrainingSection(members=1, epochs=60)
    assert next_to_continue([base], 20.0, settings).epochs == 60
    assert next_to_continue([base], 20.0, settings, seconds=2 * TRAIN_S / EPOCHS) is None
    assert next_to_continue([base], 0.0, settings) is None, "over the latency budget"


def test_it_goes_on_from_the_finished_network_and_is_bit_exact_when_interrupted(config: StudyConfig, tmp_path: Path):
    space = open_space(config.space)
    candidate = space.sample(np.random.default_rng(0))
    candidate = Candidate(candidate.space, candidate.space_version, {**candidate.params, "prune_ratio": 0.5})
    base = TrialSpec(0, candidate, config, tmp_path / "base", tmp_path / "cache")
    assert run_trial(base, lambda progress: False)
    # Without steps of any size the weights stay those of the finished trial.
    still = Candidate(candidate.space, candidate.space_version, {**candidate.params, "learning_rate": 1e-30})
    order = replace(base, number=1, folder=tmp_path / "on", continues=Continuation(0, base.folder, 2))
    run_trial(replace(order, candidate=still, folder=tmp_path / "still"), lambda progress: True)
    before = load_checkpoint(base.checkpoint_path)
    after = load_checkpoint(tmp_path / "still" / "last.pt")
    assert before is not None and after is not None and after.pruned
    parameters = {name for name, _ in trained_net(base, 14).named_parameters()}
    assert all(torch.allclose(after.model[name], before.model[name], atol=1e-6) for name in parameters)

    assert run_trial(order, lambda progress: False)
    parts = replace(order, folder=tmp_path / "parts")
    assert not run_trial(parts, lambda progress: progress.epoch >= 1)
    assert run_trial(parts, lambda progress: False)
    left, right = (load_checkpoint(item.checkpoint_path, item.fingerprint) for item in (order, parts))
    assert left is not None and right is not None and left.curve == right.curve
    assert all(torch.equal(left.model[key], right.model[key]) for key in left.model)
    assert TrialSpec.from_dict(order.to_dict()).continues == order.continues
    later = replace(order, number=2, folder=tmp_path / "later", continues=Continuation(1, order.folder, 1))
    assert run_trial(replace(later, candidate=still, folder=tmp_path / "later"), lambda progress: False)
    last = load_checkpoint(later.checkpoint_path)
    assert last is not None and all(
        torch.allclose(last.model[name], left.model[name], atol=1e-6) for name in parameters
    )


def test_a_checkpoint_that_is_gone_fails_the_final_training_with_its_name(config: StudyConfig, tmp_path: Path):
    candidate = open_space(config.space).default()
    gone = Continuation(7, tmp_path / "gone", 2)
    with pytest.raises(TrialFailed, match=r"trial 7.*no usable checkpoint"):
        run_trial(TrialSpec(8, candidate, config, tmp_path / "x", tmp_path / "cache", gone), lambda progress: False)


@pytest.mark.slow
def test_a_launch_ends_in_final_trainings_that_are_exported(write_study: Callable[..., Path]):
    study = write_study(epochs=2, trials=2, rungs=[])
    study.write_text(
        study.read_text().replace("startup_trials: 4", "startup_trials: 4\n  final_training: {members: 1, epochs: 4}")
    )
    text = launching.finish(study)
    found = launching.records(study)
    final = next(record for record in found if record.parent_trial is not None)
    assert final.complete and f"trained on from trial {final.parent_trial}" in text
    assert final.score.epochs_total == 4
    if final.bundle:  # it joined the front
        assert read_bundle(Path(final.bundle)).manifest["facts"]["trial"] == final.number
    again = launching.finish(study)
    assert again.startswith(text) and again.count("trained on from") == 1, "a second launch does not repeat it"


def first_final_training(config: StudyConfig, gain: float) -> tuple[float, TrialSpec]:
    """Second of a budget of 100 s at which a study with the adaptive split begins its first final training, and its order; each search
    trial takes 2.5 s and gains ``gain`` mIoU."""
    now = 0.0
    final = config.search.final_training.model_copy(update={"time_share": "auto", "epochs": 500})
    changes = {"time_budget_minutes": 100 / 60, "trials": 1000, "final_training": final}
    config = config.model_copy(update={"search": config.search.model_copy(update=changes)})
    driver = driver_of(config, clock=lambda: now)
    for trial in range(100):
        spec = driver.ask()
        assert spec is not None
        if spec.continues is not None:
            return now, spec
        now += 2.5
        miou = 0.1 + gain * trial
        score = TrialScore(miou, EPOCHS, EPOCHS, 1000, 100, 2.0, (miou,))
        driver.progress(spec.number, Progress(EPOCHS, miou, ((EPOCHS, miou),), score))
        driver.finish(spec.number)
    raise AssertionError("no final training")


def test_final_trainings_begin_once_they_gain_more_per_second_than_the_search(config: StudyConfig):
    flat, order = first_final_training(config, 0.0)
    assert flat == 10.0, "four trials show that the search gains nothing"
    assert order.continues is not None and order.continues.epochs == 4 * EPOCHS, "a short one: the search is not over"


def test_final_trainings_wait_while_the_search_gains_more_per_second(config: StudyConfig):
    paying, _ = first_final_training(config, 0.02)
    assert 20.0 < paying < 60.0, "what a doubling of the epochs gains grows with the accuracy reached"


def trained(
    number: int, miou: float, latency_ms: float, parent: int | None = None, epochs: int = EPOCHS
) -> TrialRecord:
    """A finished trial, or a final training of one."""
    score = TrialScore(miou, epochs, epochs, 1, 1, TRAIN_S, (miou,))
    estimate = LatencyEstimate(latency_ms, latency_ms, latency_ms, 1.0)
    curve = ((epochs, miou),)
    record = TrialRecord(number, State.COMPLETE, None, Outcome.FINISHED, None, estimate, score, curve, *[None] * 7)
    return replace(record, parent_trial=parent)


def planned(records: list[TrialRecord], share: float | str, members: int = 1) -> list[int]:
    settings = FinalTrainingSection(members=members, epochs=9, time_share=share)
    return [training.number for training in FinalTrainings(records, 20.0, settings, OBJECTIVES).plan(1000.0, 1)]


def test_with_an_adaptive_split_superseded_networks_do_not_count_as_members():
    records = [trained(0, 0.4, 5.0), trained(1, 0.45, 5.0, parent=0), trained(2, 0.6, 4.0)]
    assert planned(records, "auto") == [2]
    assert planned(records, 0.4) == []


def test_with_an_adaptive_split_a_final_training_is_continued_by_another():
    records = [trained(0, 0.4, 5.0), trained(1, 0.45, 5.0, parent=0), trained(2, 0.1, 3.0)]
    assert planned(records, "auto") == [1], "the one member"
    assert set(planned(records, "auto", members=2)) == {1, 2}
    assert planned(records, 0.4, members=2) == [2]
    running = replace(trained(3, 0.45, 5.0, parent=1), state=State.RUNNING, outcome=None, score=None)
    assert planned([*records, running], "auto") == [], "it is being continued"


def test_the_epochs_before_a_final_training_are_those_of_its_whole_chain():
    records = [trained(0, 0.4, 5.0, epochs=30), trained(1, 0.45, 5.0, parent=0, epochs=9)]
    settings = FinalTrainingSection(members=1, epochs=9, time_share="auto")
    (option,) = FinalTrainings(records, 20.0, settings, OBJECTIVES)._options
    assert (option.number, option.epochs) == (1, 39), "nine more are a small part of a doubling"
