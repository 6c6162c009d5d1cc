"""`training.inherit`: which trial a candidate starts from, what is recorded, and that it is the same again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from driving import driver_of, records_of

from objectives.trial_record import TrialRecord
from search_spaces import open_space
from search_spaces.candidate import Candidate
from trial_runner.config.compatibility import incompatible_change
from trial_runner.config.load import load_config, public_values
from trial_runner.config.study import StudyConfig
from trial_runner.search.relatives import best_relative
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import RecordedCheckpoint, TrainedTrial, TrialFailed, TrialSpec


@pytest.fixture
def config(write_study: Callable[..., Path]) -> StudyConfig:
    return load_config(write_study(epochs=1, trials=4), ["training.inherit=true", "search.sampler=random"])


def run_all(config: StudyConfig) -> list[TrialRecord]:
    driver = driver_of(config)
    while (spec := driver.ask()) is not None:
        run_trial(spec, lambda progress, number=spec.number: driver.progress(number, progress))
        driver.finish(spec.number)
    return records_of(config)


def test_a_trial_starts_from_the_best_finished_one_of_its_family(config: StudyConfig):
    config = config.model_copy(
        update={"space": config.space.model_copy(update={"families": ["lcnet"], "widths": [0.25, 0.5]})}
    )
    records = run_all(config)
    first, *others = records
    assert first.relative is None and first.score.initial_weights == "random"
    for record in others:
        assert record.relative is not None and record.relative.number < record.number
        assert record.relative.candidate == records[record.relative.number].candidate
        assert record.score.initial_weights.startswith(f"trial {record.relative.number} (")


def trial(record: TrialRecord, number: int, miou: float, **params: Any) -> TrialRecord:
    candidate = Candidate(record.candidate.space, record.candidate.space_version, {**record.params, **params})
    return replace(record, number=number, candidate=candidate, score=replace(record.score, val_miou=miou))


def test_the_closest_architecture_comes_before_the_most_accurate(config: StudyConfig):
    (done,) = run_all(config.model_copy(update={"search": config.search.model_copy(update={"trials": 1})}))
    space = open_space(config.space)
    records = [
        trial(done, 0, 0.9, family="resnet10t", decoder="fpn"),
        trial(done, 1, 0.5, family="lcnet", decoder="fpn", width=0.25),
        trial(done, 2, 0.4, family="lcnet", decoder="fpn", width=0.5),
        trial(done, 3, 0.6, family="lcnet", decoder="lraspp"),
        replace(trial(done, 4, 0.7, family="lcnet", decoder="fpn"), duplicate_of=1),
    ]
    wanted = trial(done, 5, 0.0, family="lcnet", decoder="fpn", width=0.5).candidate
    assert best_relative(records, wanted, space.architecture_params).number == 1
    assert best_relative(records[2:], wanted, space.architecture_params).number == 2
    assert best_relative(records[3:], wanted, space.architecture_params).number == 3
    assert best_relative(records[:1], wanted, space.architecture_params) is None


def test_the_weights_arrive_and_the_same_parent_gives_the_same_training(config: StudyConfig, tmp_path: Path):
    space = open_space(config.space)
    drawn = space.sample(np.random.default_rng(0))
    candidate = Candidate(
        drawn.space, drawn.space_version, {**drawn.params, "prune_ratio": 0.0, "learning_rate": 1e-30}
    )
    parent = TrialSpec(0, candidate, config, tmp_path / "parent", tmp_path / "cache", seed=7)
    assert run_trial(parent, lambda progress: False)
    relative = TrainedTrial(0, parent.folder, candidate)
    child = replace(parent, number=1, folder=tmp_path / "child", seed=None, relative=relative)
    assert TrialSpec.from_dict(child.to_dict()).relative == relative
    assert child.fingerprint != replace(child, relative=None).fingerprint
    states = []
    for name in ("child", "again"):
        assert run_trial(replace(child, folder=tmp_path / name), lambda progress: False)
        states.append(load_checkpoint(tmp_path / name / "last.pt").model)
    given = load_checkpoint(parent.checkpoint_path).model
    parameters = {name for name, _ in space.build(candidate, 14).named_parameters()}
    assert all(torch.allclose(states[0][name], given[name], atol=1e-6) for name in parameters), (
        "not those of its own seed"
    )
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    other = replace(relative, recorded=RecordedCheckpoint(((3, 0.5),), "0" * 64))
    assert TrialSpec.from_dict(replace(child, relative=other).to_dict()).relative == other
    with pytest.raises(TrialFailed, match=r"inherit the weights of trial 0, but .* record is of weights of epoch 3"):
        run_trial(replace(child, folder=tmp_path / "other", relative=other), lambda progress: False)


def test_a_parent_without_a_checkpoint_fails_the_trial_with_its_number(config: StudyConfig, tmp_path: Path):
    candidate = open_space(config.space).default()
    gone = TrainedTrial(7, tmp_path / "gone", candidate)
    with pytest.raises(TrialFailed, match=r"trial 7.*no usable checkpoint"):
        run_trial(
            TrialSpec(8, candidate, config, tmp_path / "x", tmp_path / "cache", relative=gone), lambda progress: False
        )


def test_a_study_cannot_be_resumed_with_another_choice(config: StudyConfig):
    off = config.model_copy(update={"training": config.training.model_copy(update={"inherit": False})})
    assert "inherit" not in public_values(off)["training"], "studies of earlier releases have no such key"
    assert incompatible_change(public_values(config), config) is None
    assert incompatible_change(public_values(off), off) is None
    for before, after in ((off, config), (config, off)):
        assert "training.inherit" in str(incompatible_change(public_values(before), after))
