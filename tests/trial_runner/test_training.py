from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from search_spaces import open_space
from search_spaces.candidate import Candidate
from trial_runner.config.load import load_config
from trial_runner.config.study import LossSection
from trial_runner.front.export_job import trained_net
from trial_runner.training.augmentation import Augmentation
from trial_runner.training.batches import epoch_batches
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.evaluator import split_scores
from trial_runner.training.losses import class_weights
from trial_runner.training.trial import load_splits, run_trial
from trial_runner.training.trial_spec import Progress, TrialFailed, TrialSpec


@pytest.fixture
def spec(write_study: Callable[..., Path], tmp_path: Path) -> Callable[..., TrialSpec]:
    config = load_config(write_study(epochs=4))

    def make(folder: str = "trial", **params: object) -> TrialSpec:
        space = open_space(config.space)
        candidate = space.sample(np.random.default_rng(0))
        candidate = Candidate(
            candidate.space, candidate.space_version, {**candidate.params, "prune_ratio": 0.5, **params}
        )
        return TrialSpec(0, candidate, config, tmp_path / folder, tmp_path / "cache")

    return make


def with_training(order: TrialSpec, **changes: object) -> TrialSpec:
    training = order.config.training.model_copy(update=changes)
    return replace(order, config=order.config.model_copy(update={"training": training}))


RECIPES = [
    {},
    {"optimizer": "sgd", "schedule": "poly", "encoder_lr_multiplier": 0.3, "ema_decay": 0.9},
    {"schedule": "one_cycle", "loss": LossSection(dice=0.5, lovasz=0.5, ohem_ratio=0.3, label_smoothing=0.1)},
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_interrupted_training_gives_bit_for_bit_what_an_uninterrupted_one_gives(
    spec: Callable[..., TrialSpec], recipe: dict[str, object]
):
    whole, parts = (with_training(spec(name), **recipe) for name in ("whole", "parts"))
    curve: list[Progress] = []
    assert run_trial(whole, lambda progress: bool(curve.append(progress)))
    for stop_at in (1, 2, 3):
        assert not run_trial(parts, lambda progress, epoch=stop_at: progress.epoch >= epoch)
    resumed: list[Progress] = []
    assert run_trial(parts, lambda progress: bool(resumed.append(progress)))
    assert resumed[-1].curve == curve[-1].curve
    assert [epoch for epoch, _ in resumed[-1].curve] == [1, 2, 3, 4]
    left, right = (load_checkpoint(s.checkpoint_path, s.fingerprint) for s in (whole, parts))
    assert left is not None and right is not None and left.pruned and right.pruned
    assert left.model.keys() == right.model.keys()
    assert all(torch.equal(left.model[key], right.model[key]) for key in left.model)
    assert all(torch.equal(left.weights[key], right.weights[key]) for key in left.weights)
    assert (left.average is not None) == ("ema_decay" in recipe)


def test_the_average_is_what_is_scored_and_exported(spec: Callable[..., TrialSpec]):
    order = with_training(spec(), ema_decay=0.95)
    reports: list[Progress] = []
    run_trial(order, lambda progress: bool(reports.append(progress)))
    checkpoint = load_checkpoint(order.checkpoint_path)
    assert checkpoint is not None
    net = trained_net(order, 14)
    weights = net.state_dict()
    assert all(torch.equal(weights[key], checkpoint.weights[key]) for key in weights)
    assert not all(torch.equal(weights[key], checkpoint.model[key]) for key in weights)
    info, _, val = load_splits(order, (32, 64))
    scores = split_scores(net, val.images, val.labels, 14, info.ignore_index, device=torch.device("cpu"))
    assert scores.matrix.miou() == pytest.approx(reports[-1].val_miou)


def test_a_finished_trial_that_is_started_again_only_reports(spec: Callable[..., TrialSpec]):
    order = spec()
    run_trial(order, lambda progress: False)
    before = order.checkpoint_path.stat().st_mtime_ns
    reports: list[Progress] = []
    assert run_trial(order, lambda progress: bool(reports.append(progress)))
    assert [report.epoch for report in reports] == [4] and len(reports[0].curve) == 4
    assert order.checkpoint_path.stat().st_mtime_ns == before


def test_the_score_is_that_of_the_pruned_network(spec: Callable[..., TrialSpec]):
    reports: list[Progress] = []
    run_trial(spec(), lambda progress: bool(reports.append(progress)))
    scores = [report.score for report in reports]
    assert scores[-1].final and not scores[0].final
    assert scores[-1].macs < scores[0].macs and scores[-1].params < scores[0].params
    assert 0 <= scores[-1].val_miou <= 1 and len(scores[-1].class_iou) == 14


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_resumed(spec: Callable[..., TrialSpec]):
    order = spec()
    run_trial(order, lambda progress: progress.epoch >= 2)
    other = replace(
        order, config=order.config.model_copy(update={"study": order.config.study.model_copy(update={"seed": 99})})
    )
    assert load_checkpoint(order.checkpoint_path, other.fingerprint) is None
    assert load_checkpoint(order.checkpoint_path, replace(order, seed=99).fingerprint) is None, "of its own seed"
    assert load_checkpoint(order.checkpoint_path, order.fingerprint) is not None
    order.checkpoint_path.write_bytes(order.checkpoint_path.read_bytes()[:1000])
    reports: list[Progress] = []
    run_trial(order, lambda progress: bool(reports.append(progress)))
    assert [report.epoch for report in reports] == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_fails_the_trial_with_the_next_step(spec: Callable[..., TrialSpec]):
    with pytest.raises(TrialFailed, match=r"the loss is (nan|inf).*lower the upper end of space\.learning_rate"):
        run_trial(spec(learning_rate=1e12, prune_ratio=0.0), lambda progress: False)


OUT_OF_MEMORY = """
import json, resource, sys
from trial_runner.training.trial import load_splits, run_trial
from trial_runner.training.trial_spec import TrialFailed, TrialSpec
spec = TrialSpec.from_dict(json.loads(sys.argv[1]))
run_trial(spec, lambda progress: True)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, resource.RLIM_INFINITY))
from trial_runner.training import trainer
import timm
import torch
original = trainer.Trainer._loss
def greedy(self, images, labels):
    return original(self, images.repeat(4096, 1, 1, 1), labels.repeat(4096, 1, 1))
trainer.Trainer._loss = greedy
try:
    run_trial(spec, lambda progress: False)
except TrialFailed as error:
    print("TrialFailed:", error)
"""


def test_out_of_memory_fails_the_trial_with_the_next_step(spec: Callable[..., TrialSpec], tmp_path: Path):
    import json

    order = spec(prune_ratio=0.0)
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, json.dumps(order.to_dict())], capture_output=True, text=True, timeout=120
    )
    assert "TrialFailed: out of memory; lower training.batch_size" in done.stdout, done.stdout + done.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_batches_show_every_image_once_an_epoch_and_repeat_with_the_seed():
    images = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
    labels = np.zeros((10, 8, 8), np.uint8)
    plain = Augmentation(1.0, 1.0, 0.0)

    def pixels(epoch: int) -> list[float]:
        batches = epoch_batches(
            images, labels, 3, plain, seed=1, epoch=epoch, ignore_index=255, device=torch.device("cpu")
        )
        return [float(image[0, 0, 0]) for batch, _ in batches for image in batch]

    assert len(set(np.round(pixels(0), 4))) == 10
    assert pixels(0) == pixels(0) != pixels(1)


def test_a_last_batch_of_one_image_joins_the_one_before():
    images, labels = np.zeros((9, 8, 8, 3), np.uint8), np.zeros((9, 8, 8), np.uint8)
    batches = epoch_batches(
        images, labels, 4, Augmentation(1, 1, 0), seed=0, epoch=0, ignore_index=255, device=torch.device("cpu")
    )
    assert [len(batch) for batch, _ in batches] == [4, 5]


def test_image_and_label_move_together_and_what_leaves_the_image_is_ignored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (6, 1, 1)).astype(np.uint8).repeat(16, 1).repeat(16, 2)
    labels[:, :, 8:] = 1 - labels[:, :, 8:]
    labels[:, 4, 4] = 255
    images = (np.where(labels == 255, 0, labels) * 200)[..., None].repeat(3, 3).astype(np.uint8)
    for batch, target in epoch_batches(
        images, labels, 6, Augmentation(0.5, 2.0, 0.0), seed=0, epoch=0, ignore_index=255, device=torch.device("cpu")
    ):
        assert set(target.unique().tolist()) <= {0, 1, 255} and (target == 255).any()
        bright = batch[:, 0] > 0
        known = target != 255
        assert (bright[known] == (target[known] == 1)).float().mean() > 0.9


def test_class_weights_favour_rare_classes_and_leave_absent_ones_out():
    labels = np.array([[[0, 0, 0, 0, 1, 255]]], np.uint8)
    weights = class_weights(labels, 3, 255)
    assert weights[1] == pytest.approx(2 * weights[0]) and weights[2] == 0
    assert weights[:2].mean() == pytest.approx(1.0)


def test_a_trial_starts_from_pretrained_weights_and_its_score_says_so(spec: Callable[..., TrialSpec], tmp_path: Path):
    donor = timm.create_model("lcnet_100", pretrained=False)
    torch.save(donor.state_dict(), tmp_path / "lcnet_100.pth")
    order = with_training(spec("pretrained", family="lcnet", width=0.5), weights=str(tmp_path))
    reports: list[Progress] = []
    assert not run_trial(order, lambda progress: bool(reports.append(progress)) or progress.epoch == 2)
    assert run_trial(order, lambda progress: bool(reports.append(progress)))
    said = {report.score.initial_weights for report in reports}
    assert said == {"lcnet_100.pth, the strongest filters for width 0.5"}
