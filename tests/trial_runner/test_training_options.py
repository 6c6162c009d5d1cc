"""Training options beside the recipe: crops, coarser labels, calibrated norms, layout, readings, searched keys."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from search_spaces import get_space, open_space
from search_spaces.candidate import Candidate
from trial_runner.config.load import ConfigError, load_config
from trial_runner.config.study import LossSection, StudyConfig, TrainingSection
from trial_runner.config.training_hash import training_identity
from trial_runner.training.augmentation import Augmentation
from trial_runner.training.batches import batch_count, epoch_batches, plain_batches
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.losses import class_weights
from trial_runner.training.precise_bn import update_bn_statistics
from trial_runner.training.runtime import memory_format
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import Progress, TrialSpec

CPU = torch.device("cpu")


def batches(images: np.ndarray, labels: np.ndarray, size: int, augmentation: Augmentation, **options: object):
    settings = {"seed": 0, "epoch": 0, "ignore_index": 255, "device": CPU, **options}
    return list(epoch_batches(images, labels, size, augmentation, **settings))


def scenes(count: int = 6, height: int = 64, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Images that are bright where the label is 1."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 2, (count, 4, 4)), np.ones((height // 4, width // 4))).astype(np.uint8)
    return (labels * 200)[..., None].repeat(3, 3), labels


def test_a_crop_shows_a_part_at_the_same_scale_with_its_own_labels():
    images, labels = scenes()
    for pixels, classes in batches(images, labels, 3, Augmentation(1.0, 1.0, 0.0, crop_ratio=0.5)):
        assert pixels.shape[2:] == classes.shape[1:] == (32, 64)  # 48 pixels are rounded up to a multiple of 32
        assert ((pixels[:, 0] > 0) == (classes == 1)).float().mean() > 0.9
        assert (classes != 255).all(), "a crop lies inside the image"
    whole = [pixels.shape[2:] for pixels, _ in batches(images, labels, 3, Augmentation(1.0, 1.0, 0.0))]
    assert whole == [(64, 96)] * 2


@pytest.mark.parametrize("stride", [2, 4])
def test_coarser_labels_are_those_at_the_centres_of_the_squares(stride: int):
    images, labels = scenes()
    augmentation = Augmentation(0.8, 1.5, 0.1)
    fine = batches(images, labels, 6, augmentation)[0]
    coarse = batches(images, labels, 6, Augmentation(0.8, 1.5, 0.1, label_stride=stride))[0]
    assert torch.equal(fine[0], coarse[0])
    offset = stride // 2
    near = fine[1][:, offset::stride, offset::stride]
    assert coarse[1].shape == near.shape and (coarse[1] == near).float().mean() > 0.95


def test_the_parts_of_two_processes_are_the_batches_of_one():
    images, labels = scenes(9)
    augmentation = Augmentation(0.7, 1.6, 0.3, 0.5)
    whole = batches(images, labels, 4, augmentation)
    halves = [batches(images, labels, 4, augmentation, part=(rank, 2)) for rank in (0, 1)]
    assert len(whole) == len(halves[0]) == batch_count(9, 4) == 2
    for one, left, right in zip(whole, *halves, strict=True):
        assert torch.equal(one[0][0::2], left[0]) and torch.equal(one[0][1::2], right[0])
        assert torch.equal(one[1][0::2], left[1]) and torch.equal(one[1][1::2], right[1])


def test_calibrated_norms_have_the_statistics_of_the_images_and_no_weight_changes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU())
    images = [torch.randn(4, 3, 16, 16) + 2 for _ in range(3)]
    weights = net[0].weight.clone()
    update_bn_statistics(net, images)
    seen = torch.stack([net[0](batch).transpose(0, 1).flatten(1) for batch in images])
    assert torch.allclose(net[1].running_mean, seen.mean((0, 2)), atol=1e-5)
    assert torch.allclose(net[1].running_var, seen.var(2).mean(0), rtol=1e-4)
    assert torch.equal(net[0].weight, weights) and net[1].momentum == 0.1 and net.training
    before = net[1].running_mean.clone()
    update_bn_statistics(net, [])
    assert torch.equal(net[1].running_mean, before)


def test_batches_for_calibration_are_spread_over_the_images():
    images = np.arange(100, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    found = list(plain_batches(images, 4, 5, CPU))
    assert [len(batch) for batch in found] == [5] * 4
    values = torch.cat(found)[:, 0].flatten()
    assert len(values.unique()) == 20 and values.min() < -2 and values.max() < 0
    assert list(plain_batches(images, 0, 5, CPU)) == []


def test_networks_that_channels_last_would_break_keep_the_contiguous_layout():
    config = TrainingSection()
    space = get_space("encoder_decoder", {"families": ["mobilenetv2", "repvgg_a0"], "widths": [0.25]})
    found = {}
    for family in ("mobilenetv2", "repvgg_a0"):
        net = space.build(space.candidate({**space.default().params, "family": family}), 3)
        found[family] = memory_format(net, config)
        assert memory_format(net, config.model_copy(update={"memory_format": "contiguous"})) == torch.contiguous_format
    assert found == {"mobilenetv2": torch.channels_last, "repvgg_a0": torch.contiguous_format}


@pytest.fixture
def config(write_study: Callable[..., Path]) -> StudyConfig:
    return load_config(write_study(epochs=4))


def order_of(config: StudyConfig, folder: Path, **training: object) -> TrialSpec:
    space = open_space(config.space)
    changed = config.model_copy(update={"training": config.training.model_copy(update=training)})
    return TrialSpec(0, space.default(), changed, folder, folder.parent / "cache")


def test_readings_come_when_they_are_due_and_at_the_end_and_resume_bit_for_bit(config: StudyConfig, tmp_path: Path):
    options = {
        "epochs": 5,
        "evaluate_every": 2,
        "precise_bn_batches": 2,
        "crop_ratio": 0.5,
        "label_stride": 2,
        "ema_decay": 0.9,
        "deterministic": True,
    }
    whole, parts = (order_of(config, tmp_path / name, **options) for name in ("whole", "parts"))
    readings: list[Progress] = []
    assert run_trial(whole, lambda progress: bool(readings.append(progress)))
    assert [progress.epoch for progress in readings] == [2, 4, 5]
    assert not run_trial(parts, lambda progress: progress.epoch == 2)
    resumed: list[Progress] = []
    assert run_trial(parts, lambda progress: bool(resumed.append(progress)))
    assert resumed[-1].curve == readings[-1].curve
    left, right = (load_checkpoint(order.checkpoint_path) for order in (whole, parts))
    assert left is not None and right is not None
    assert all(torch.equal(left.weights[key], right.weights[key]) for key in left.weights)
    torch.use_deterministic_algorithms(False)


def test_a_rung_where_nothing_is_read_is_refused(write_study: Callable[..., Path]):
    study = write_study(epochs=6, rungs=(2, 3))
    with pytest.raises(ConfigError, match=r"rungs_epochs \[3\] must be multiples of training.evaluate_every"):
        load_config(study, ["training.evaluate_every=2"])


def test_keys_at_their_defaults_leave_the_fingerprint_of_older_trainings_alone():
    first = training_identity(TrainingSection())
    assert first == {
        "epochs": 20,
        "weights": "none",
        "batch_size": 8,
        "warmup_epochs": 0.5,
        "prune_after": 0.25,
        "optimizer": "adamw",
        "schedule": "cosine",
        "encoder_rate": 1.0,
        "loss": {
            "cross_entropy": 1.0,
            "dice": 0.0,
            "lovasz": 0.0,
            "hardest_share": 1.0,
            "label_smoothing": 0.0,
            "class_weights": "none",
        },
        "distillation": {"teacher": None, "weight": 1.0, "temperature": 2.0},
        "average_decay": 0.0,
        "mixed_precision": False,
        "gradient_clip_norm": 5.0,
        "min_scale": 0.75,
        "max_scale": 1.5,
        "colour_jitter": 0.2,
    }
    assert training_identity(TrainingSection(device="cpu")) == first
    assert training_identity(TrainingSection(crop_ratio=0.5)) == {**first, "crop_share": 0.5}
    assert training_identity(TrainingSection(loss=LossSection(dice=1.0))) != first


SEARCHED = "space.training={optimizer: [sgd, adamw], loss.lovasz: [0.0, 0.5], ema_decay: {low: 0.5, high: 0.9}}"


def test_any_key_of_the_training_can_be_searched(write_study: Callable[..., Path], tmp_path: Path):
    config = load_config(write_study(epochs=2), [SEARCHED])
    space = open_space(config.space)
    default = space.default()
    order = TrialSpec(0, default, config, tmp_path / "trial", tmp_path / "cache")
    assert (order.training.optimizer, order.training.loss.lovasz) == ("sgd", 0.0)
    assert order.training.epochs == 2 and order.training.batch_size == 4
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    asked = [space.suggest(study.ask()) for _ in range(20)]
    assert {c.params["training.optimizer"] for c in asked} == {"sgd", "adamw"}
    trained = [order_with(order, candidate) for candidate in asked]
    assert all(0.5 <= one.training.ema_decay <= 0.9 for one in trained)
    assert len({one.fingerprint for one in trained}) == len({candidate.id for candidate in asked})
    same = space.candidate({**default.params, "training.optimizer": "adamw"})
    assert space.architecture_id(same) == space.architecture_id(default) and same.id != default.id
    assert run_trial(order_with(order, asked[0]), lambda progress: False)
    assert Candidate.from_dict(json.loads(json.dumps(same.to_dict()))) == same


def order_with(order: TrialSpec, candidate: Candidate) -> TrialSpec:
    return TrialSpec(0, candidate, order.config, order.folder / candidate.id, order.cache_dir)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ("{optimiser: [sgd]}", r"space.training.optimiser: Extra inputs"),
        ("{optimizer: [sgd, adam]}", r"space.training.optimizer: Input should be"),
        ("{loss.cross_entropy: [0.0, 1.0]}", r"space.training.loss: .*above 0"),
        ("{min_scale: [0.5, 2.0]}", r"space.training, min_scale 2.0: .*must not exceed"),
        ("{epochs: [4, 8]}", r"space.training.epochs: it is the same for all trials"),
        ("{optimizer: []}", r"space.training.optimizer"),
    ],
)
def test_searched_keys_that_are_no_training_are_refused(write_study: Callable[..., Path], choices: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_config(write_study(), [f"space.training={choices}"])


MAPPED = """
import sys
from pathlib import Path
import numpy as np
import torch
from objectives.data import load_arrays, open_dataset
from trial_runner.training.augmentation import Augmentation
from trial_runner.training.batches import epoch_batches
from trial_runner.training.losses import class_weights

def private_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1e3

torch.set_num_threads(1)
data = open_dataset("folder", root=Path(sys.argv[1]), split="train")
assert len(data) == 20_000
def work(arrays, count):
    images, labels = arrays.images[:count], arrays.train_labels[:count]
    class_weights(labels, 2, 255)
    settings = dict(seed=0, epoch=0, ignore_index=255, device=torch.device("cpu"))
    for batch, _ in epoch_batches(images, labels, 32, Augmentation(1.0, 1.0, 0.0), **settings):
        pass
few = open_dataset("synthetic", root=None, split="train", images=64, height_px=64, width_px=64)
work(load_arrays(few, (64, 64), cache_dir=None), 64)  # what torch and its threads take for themselves
before = private_mb()
arrays = load_arrays(data, (64, 64), cache_dir=Path(sys.argv[2]), with_labels=False)
work(arrays, 20_000)
print(arrays.images.nbytes / 1e6, private_mb() - before)
"""


@pytest.mark.slow
def test_twenty_thousand_images_do_not_fill_the_memory(tmp_path: Path):
    from PIL import Image

    root = tmp_path / "data"
    for part in ("images", "labels"):
        (root / part / "train").mkdir(parents=True)
    (root / "classes.txt").write_text("ground\nhouse\n")
    rng = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / f"{number}.png", compress_level=1)
        Image.fromarray(rng.integers(0, 2, (64, 64), np.uint8)).save(tmp_path / f"{number}l.png", compress_level=1)
    for number in range(20_000):
        (root / f"images/train/{number:05d}.png").hardlink_to(tmp_path / f"{number % 20}.png")
        (root / f"labels/train/{number:05d}.png").hardlink_to(tmp_path / f"{number % 20}l.png")
    done = subprocess.run(
        [sys.executable, "-c", MAPPED, str(root), str(tmp_path / "cache")], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    size_mb, private_mb = map(float, done.stdout.split())
    assert size_mb > 240 and private_mb < 60, done.stdout


def test_class_weights_of_many_images_are_those_of_all(tmp_path: Path):
    labels = np.random.default_rng(0).choice(np.array([0, 0, 0, 1, 255], np.uint8), (150, 4, 4))
    counts = np.bincount(labels.ravel(), minlength=256)
    expected = 1 / np.sqrt(counts[:2])
    assert class_weights(labels, 2, 255).numpy() == pytest.approx(expected / expected.mean(), rel=1e-5)
