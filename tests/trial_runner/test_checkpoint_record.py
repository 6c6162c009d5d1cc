"""Weights and results belong together: neither an export nor a final training uses a checkpoint that was not scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from driving import driver_of, records_of

from objectives.trial_record import EarlierTrial, TrialRecord, read_study
from objectives.trial_score import TrialScore
from search_spaces._common.errors import UserError
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.front.export_job import export_trial
from trial_runner.front.exporter import export_now, export_order
from trial_runner.launch import launch
from trial_runner.search.driver import StudyDriver
from trial_runner.search.final_training import recorded_checkpoint, spec_of
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.training.checkpoint import checkpoint_sha256, finished_checkpoint, load_checkpoint, save_checkpoint
from trial_runner.training.trial_spec import Continuation, Progress, TrialFailed, TrialSpec

Finished = tuple[StudyConfig, StudyPaths, TrialRecord]


@pytest.fixture
def finished(write_study: Callable[..., Path]) -> Finished:
    """A study of one finished trial."""
    config = load_config(write_study(trials=1, epochs=2))
    launch(config, lambda line: None)
    return config, StudyPaths(config.study.output_dir), read_study(open_configured(config))[0]


def set_back(path: Path) -> None:
    """Put the checkpoint of the first epoch there, as a backup or a second driver does."""
    checkpoint = load_checkpoint(path)
    assert checkpoint is not None
    save_checkpoint(path, replace(checkpoint, epoch=1, curve=checkpoint.curve[:1]))


def test_the_record_holds_the_checksum_of_the_scored_checkpoint(finished: Finished):
    _, paths, record = finished
    assert record.checkpoint_sha256 == checkpoint_sha256(paths.trial(0) / "last.pt") is not None


def test_weights_that_were_not_scored_are_not_exported(finished: Finished):
    config, paths, record = finished
    study = open_configured(config)
    assert export_now(config, study, record).is_dir()
    older = replace(record, checkpoint_sha256=None)  # as an earlier release recorded it
    assert export_trial(export_order(config, paths, older)).is_dir()
    set_back(paths.trial(0) / "last.pt")
    for each in (record, older):
        with pytest.raises(
            UserError, match=r"not the one that it was scored with: .* weights of epoch 1 .* of epoch 2"
        ):
            export_now(config, study, each)


def test_a_final_training_does_not_start_from_weights_that_were_not_scored(finished: Finished):
    _, paths, record = finished
    base = Continuation(0, paths.trial(0), 3, recorded_checkpoint(record))
    assert Continuation.from_dict(base.to_dict()) == base
    assert finished_checkpoint(base).epoch == 2
    set_back(paths.trial(0) / "last.pt")
    for each in (record, replace(record, checkpoint_sha256=None)):
        with pytest.raises(TrialFailed, match=r"it was to go on from trial 0, but .* weights of epoch 1"):
            finished_checkpoint(replace(base, recorded=recorded_checkpoint(each)))


def test_trials_that_use_another_ones_weights_are_told_its_record(finished: Finished):
    config, paths, record = finished
    assert record.candidate is not None
    origin = EarlierTrial(0, record.candidate)
    child = replace(record, number=1, teacher=origin, relative=origin)
    order = spec_of(config, paths, child, [record, child])
    for used in (order.teacher, order.relative):
        assert used is not None and used.recorded == recorded_checkpoint(record)
    stopped = replace(record, state="PRUNED", outcome="stopped")  # may train on at any time
    order = spec_of(config, paths, child, [stopped, child])
    assert order.relative is not None and order.relative.recorded is None


@pytest.mark.parametrize(
    "content",
    [[1], {"state_dict": {}}, {"curve": 5}, {"curve": [(1, 0.5)], "model": {"weight": torch.zeros(1).expand(10**12)}}],
    ids=["list", "network file", "curve", "larger than its file"],
)
def test_a_file_of_another_form_is_no_checkpoint(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "last.pt") is None
    assert load_checkpoint(tmp_path / "last.pt", "fingerprint") is None


@pytest.fixture
def config(write_study: Callable[..., Path]) -> StudyConfig:
    overrides = ["search.sampler=random", "search.final_training.members=1", "search.final_training.epochs=4"]
    return load_config(write_study(trials=3, epochs=3), overrides)


def train(driver: StudyDriver, spec: TrialSpec, config: StudyConfig) -> None:
    """Report a whole training whose mIoU grows with the width, with a checkpoint on disk."""
    spec.checkpoint_path.parent.mkdir(parents=True)
    spec.checkpoint_path.write_text(f"weights of {spec.number}")
    miou = 0.1 + 0.5 * float(spec.candidate.params["width"])
    curve = tuple((epoch, miou) for epoch in range(1, spec.epochs + 1))
    score = TrialScore(miou, spec.epochs, spec.epochs, 1000, 100, 6.0, (miou,))
    digest = checkpoint_sha256(spec.checkpoint_path)
    driver.progress(spec.number, Progress(spec.epochs, miou, curve, score, checkpoint_sha256=digest))
    driver.finish(spec.number)


def test_a_base_whose_checkpoint_is_gone_is_not_trained_further_and_the_next_one_is(
    config: StudyConfig, caplog: pytest.LogCaptureFixture
):
    driver = driver_of(config)
    while (spec := driver.ask()) is not None and spec.continues is None:
        train(driver, spec, config)
    assert spec is not None and spec.continues is not None
    first = spec.continues.number
    driver.finish(spec.number, "the worker died")
    (spec.continues.folder / "last.pt").unlink()
    second = driver_of(config).ask()
    assert second is not None and second.continues is not None and second.continues.number != first
    assert f"trial {first} is not trained further" in caplog.text


def test_a_final_training_that_cannot_start_is_tried_twice_and_then_dropped(config: StudyConfig):
    driver = driver_of(config)
    bases = []
    while (spec := driver.ask()) is not None:
        if spec.continues is None:
            train(driver, spec, config)
        else:
            bases.append(spec.continues.number)
            driver.finish(spec.number, "it was to go on from a trial which has no usable checkpoint")
            driver._failures = 0  # other trials succeed in between
    front = {record.number for record in records_of(config) if record.complete}
    assert bases and all(bases.count(base) == 2 for base in bases) and set(bases) <= front
    assert driver_of(config).ask() is None
