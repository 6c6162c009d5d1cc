"""Candidates that differ in prune ratio or precision only share their common training, bit for bit, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces import open_space
from search_spaces.candidate import Candidate
from trial_runner.config.load import load_config
from trial_runner.training.checkpoint import Checkpoint, load_checkpoint
from trial_runner.training.stage_cache import StageCache, shared_stages
from trial_runner.training.trainer import Trainer
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import Continuation, TrialSpec

EPOCHS = 4


@pytest.fixture
def make(write_study: Callable[..., Path], tmp_path: Path) -> Callable[..., TrialSpec]:
    def spec(folder: str, *overrides: str, **params: Any) -> TrialSpec:
        config = load_config(write_study(epochs=EPOCHS), ["training.prune_after=0.5", *overrides])
        space = open_space(config.space)
        drawn = space.sample(np.random.default_rng(0))
        candidate = Candidate(drawn.space, drawn.space_version, {**drawn.params, **params})
        return TrialSpec(0, candidate, config, tmp_path / folder, tmp_path / "cache")

    return spec


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of the epoch (from 0) of every epoch that was really trained."""
    epochs: list[int] = []
    original = Trainer._train_epoch

    def train(self: Trainer) -> None:
        epochs.append(self.epoch)
        original(self)

    monkeypatch.setattr(Trainer, "_train_epoch", train)
    return epochs


def run(spec: TrialSpec) -> Checkpoint:
    assert run_trial(spec, lambda progress: False)
    found = load_checkpoint(spec.checkpoint_path, spec.fingerprint)
    assert found is not None and found.score is not None
    return found


def same(left: Checkpoint, right: Checkpoint) -> bool:
    scores = [
        {key: value for key, value in (item.score or {}).items() if key not in ("train_s", "cached_epochs")}
        for item in (left, right)
    ]
    weights = left.model.keys() == right.model.keys() and all(
        torch.equal(left.model[k], right.model[k]) for k in left.model
    )
    return weights and left.curve == right.curve and scores[0] == scores[1]


@pytest.mark.parametrize("first", [0.0, 0.5])
@pytest.mark.parametrize(
    "recipe", [[], ["training.ema_decay=0.9", "training.precise_bn_batches=2"]], ids=["plain", "ema"]
)
def test_a_candidate_of_another_prune_ratio_trains_only_what_differs(
    make: Callable[..., TrialSpec], trained: list[int], first: float, recipe: list[str]
):
    run(make("first", *recipe, prune_ratio=first))
    trained.clear()
    shared = run(make("second", *recipe, prune_ratio=0.5 - first))
    assert trained == [2, 3] and shared.score["cached_epochs"] == 2
    alone = run(make("alone", *recipe, "compute.stage_cache_gb=0", prune_ratio=0.5 - first))
    assert "cached_epochs" not in alone.score
    assert same(shared, alone)


@pytest.mark.parametrize(("method", "start", "left"), [("ptq", 0.8, []), ("qat", 0.75, [3])])
def test_a_candidate_of_another_precision_trains_only_what_differs(
    make: Callable[..., TrialSpec], trained: list[int], method: str, start: float, left: list[int]
):
    options = [
        "space.precisions=[fp32, int8]",
        f"training.quantization.method={method}",
        f"training.quantization.start={start}",
        "training.quantization.calibration_images=4",
    ]
    params = {"family": "lcnet", "decoder": "lraspp", "prune_ratio": 0.5}
    run(make("first", *options, precision="fp32", **params))
    trained.clear()
    shared = run(make("second", *options, precision="int8", **params))
    assert trained == left and shared.score["precision"] == "int8"
    assert same(shared, run(make("alone", *options, "compute.stage_cache_gb=0", precision="int8", **params)))
    trained.clear()
    again = run(make("third", *options, precision="int8", **{**params, "prune_ratio": 0.0}))
    assert trained == [2, 3] and again.score["cached_epochs"] == 2, "the dense part is that of every precision"


@pytest.mark.parametrize(
    ("overrides", "params"),
    [
        (["study.seed=4"], {}),
        (["training.batch_size=6"], {}),
        (["training.loss.dice=0.5"], {}),
        (["training.epochs=5"], {}),
        (["data.train_images=11"], {}),
        ([], {"learning_rate": 0.002}),
        ([], {"width": 0.3}),
    ],
)
def test_whatever_changes_the_training_has_stages_of_its_own(
    make: Callable[..., TrialSpec], overrides: list[str], params: dict[str, Any]
):
    mine, other = shared_stages(make("a")), shared_stages(make("b", *overrides, **params))
    assert mine and other and not {stage.key for stage in mine} & {stage.key for stage in other}


def test_trainings_that_no_other_candidate_shares_leave_nothing(make: Callable[..., TrialSpec]):
    spec = make("a", prune_ratio=0.5)
    assert shared_stages(replace(spec, seed=3)) == ()
    assert shared_stages(replace(spec, continues=Continuation(1, spec.folder, 3))) == ()
    assert shared_stages(make("b", "space.prune_ratios=[0.5]", prune_ratio=0.5)) == ()
    assert shared_stages(make("c", "training.pruning.method=admm", prune_ratio=0.5)) == ()
    assert shared_stages(make("d", "training.pruning.method=admm", prune_ratio=0.0))


def test_a_damaged_entry_is_trained_anew(make: Callable[..., TrialSpec], trained: list[int]):
    spec = make("first", prune_ratio=0.0)
    run(spec)
    (entry,) = (spec.cache_dir / "stages").glob("*.pt")
    entry.write_bytes(entry.read_bytes()[:1000])
    trained.clear()
    assert "cached_epochs" not in run(make("second", prune_ratio=0.5)).score
    assert trained == [0, 1, 2, 3]


def test_an_interrupted_trial_goes_on_from_the_stage_it_took_over(make: Callable[..., TrialSpec], trained: list[int]):
    run(make("first", prune_ratio=0.0))
    spec = make("second", prune_ratio=0.5)
    assert not run_trial(spec, lambda progress: progress.epoch == 3)
    for entry in (spec.cache_dir / "stages").glob("*.pt"):
        entry.unlink()
    trained.clear()
    found = run(spec)
    assert trained == [3] and found.score["cached_epochs"] == 2
    assert [epoch for epoch, _ in found.curve] == [1, 2, 3, 4]


def test_the_entries_used_longest_ago_go_first(make: Callable[..., TrialSpec]):
    specs = [
        make(name, prune_ratio=0.0, learning_rate=rate) for name, rate in (("a", 0.002), ("b", 0.003), ("c", 0.004))
    ]
    for spec in specs[:2]:
        run(spec)
    folder = specs[0].cache_dir / "stages"
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert StageCache(folder, size * 1.2 / 1e9).restore(replace(specs[0], folder=specs[0].folder / "again")) is not None
    config = specs[2].config
    compute = config.compute.model_copy(update={"stage_cache_gb": size * 1.2 / 1e9})
    run(replace(specs[2], config=config.model_copy(update={"compute": compute})))
    found = {spec.folder.name for spec in specs if StageCache(folder, 1.0).restore(spec) is not None}
    assert found == {"a", "c"}
