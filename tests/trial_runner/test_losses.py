"""Losses against values worked by hand, optimizers and schedules by what they do."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from trial_runner.config.study import LossSection, TrainingSection
from trial_runner.training.ema import ExponentialMovingAverage
from trial_runner.training.losses import dice_loss, lovasz_softmax, segmentation_loss
from trial_runner.training.optimizers import make_optimizer, rate_factor, set_rate

LOGITS = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 4, (2, 6, 5), generator=torch.Generator().manual_seed(1))


def loss(labels: torch.Tensor = LABELS, logits: torch.Tensor = LOGITS, **terms: float) -> float:
    return float(segmentation_loss(logits, labels, LossSection(**terms), ignore_index=255))


def jaccard_loss(truth: torch.Tensor, predicted: torch.Tensor) -> float:
    union = float((truth | predicted).sum())
    return 1.0 - float((truth & predicted).sum()) / union if union else 0.0


def test_the_lovasz_loss_of_a_hard_prediction_is_the_mean_jaccard_loss():
    for truth in itertools.product(range(2), repeat=4):
        for predicted in itertools.product(range(2), repeat=4):
            t, p = torch.tensor(truth), torch.tensor(predicted)
            expected = [jaccard_loss(t == c, p == c) for c in range(2) if (t == c).any()]
            found = lovasz_softmax(functional.one_hot(p, 2).float().T, t, torch.ones(4, dtype=torch.bool))
            assert float(found) == pytest.approx(sum(expected) / len(expected), abs=1e-6)


def test_dice_worked_by_hand():
    probabilities = torch.tensor([[0.8, 0.2, 0.0], [0.4, 0.6, 0.0]])
    # class 0: 2*0.8 / (1.2 + 1), class 1: 2*0.6 / (0.8 + 1); class 2 is in no label.
    expected = 1 - (1.6 / 2.2 + 1.2 / 1.8) / 2
    everything = torch.ones(2, dtype=torch.bool)
    assert float(dice_loss(probabilities.T, torch.tensor([0, 1]), everything)) == pytest.approx(expected)


def test_terms_add_up_by_their_weights():
    plain = float(functional.cross_entropy(LOGITS, LABELS))
    assert loss() == pytest.approx(plain)
    only = {name: loss(cross_entropy=0, **{name: 1.0}) for name in ("dice", "lovasz")}
    assert loss(cross_entropy=0.5, dice=2.0, lovasz=3.0) == pytest.approx(
        0.5 * plain + 2 * only["dice"] + 3 * only["lovasz"]
    )


@pytest.mark.parametrize("terms", [{}, {"dice": 1.0}, {"lovasz": 1.0}, {"ohem_ratio": 0.5}, {"label_smoothing": 0.1}])
def test_ignored_pixels_change_nothing_and_a_batch_of_them_has_a_gradient_of_zero(terms: dict[str, float]):
    labels = LABELS.clone()
    labels[:, :3] = 255
    changed = LOGITS.clone()
    changed[:, :, :3] += 10 * torch.randn(2, 4, 3, 5)
    assert loss(labels, changed, **terms) == pytest.approx(loss(labels, LOGITS, **terms))
    logits = LOGITS.clone().requires_grad_()
    segmentation_loss(logits, torch.full_like(LABELS, 255), LossSection(**terms), ignore_index=255).backward()
    assert logits.grad is not None and torch.count_nonzero(logits.grad) == 0


def test_the_hardest_share_is_the_mean_of_the_largest_losses():
    each = functional.cross_entropy(LOGITS, LABELS, reduction="none").flatten().sort(descending=True).values
    assert loss(ohem_ratio=0.25) == pytest.approx(float(each[: len(each) // 4].mean()))
    assert loss(ohem_ratio=0.25) > loss()


def test_the_hardest_share_is_one_of_the_labelled_pixels():
    labels = LABELS.clone()
    labels[:, :3] = 255
    each = functional.cross_entropy(LOGITS[:, :, 3:], labels[:, 3:], reduction="none").flatten()
    hardest = each.sort(descending=True).values[: len(each) // 3]
    assert len(each) == 30 and loss(labels, ohem_ratio=1 / 3) == pytest.approx(float(hardest.mean()))


@pytest.mark.parametrize("name", ["dice", "lovasz"])
def test_following_the_gradient_lowers_the_loss(name: str):
    logits = LOGITS.clone().requires_grad_()
    config = LossSection(cross_entropy=0, **{name: 1.0})
    first = segmentation_loss(logits, LABELS, config, ignore_index=255)
    first.backward()
    assert float(segmentation_loss(logits.detach() - 5.0 * logits.grad, LABELS, config, ignore_index=255)) < float(
        first
    )


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        LossSection(cross_entropy=0)


@pytest.mark.parametrize("schedule", ["cosine", "poly", "one_cycle"])
def test_schedules_rise_once_and_end_near_zero(schedule: str):
    config = TrainingSection(schedule=schedule, warmup_epochs=1.0)
    factors = [rate_factor(config, step / 50, 10) for step in range(500)]
    peak = factors.index(max(factors))
    assert max(factors) == pytest.approx(1.0, abs=0.02) and factors[-1] < 0.02 and factors[0] < 0.1
    assert all(a < b for a, b in itertools.pairwise(factors[: peak + 1]))
    assert all(a > b for a, b in itertools.pairwise(factors[peak:]))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_encoder_has_its_own_rate_and_biases_are_not_decayed(name: str):
    net = nn.ModuleDict({"encoder": nn.Conv2d(3, 4, 3), "decoder": nn.Conv2d(4, 2, 1)})
    optimizer = make_optimizer(net, TrainingSection(optimizer=name, encoder_lr_multiplier=0.1), 0.01, 0.5)
    facts = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert facts[id(net["encoder"].weight)] == (pytest.approx(0.001), 0.5)
    assert facts[id(net["decoder"].weight)] == (0.01, 0.5)
    assert facts[id(net["decoder"].bias)] == (0.01, 0.0)
    set_rate(optimizer, 0.5)
    set_rate(optimizer, 0.5)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [pytest.approx(0.0005), pytest.approx(0.005)]


def test_the_average_follows_the_weights_and_soon_forgets_the_first():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    average = ExponentialMovingAverage(net, 0.99)
    with torch.no_grad():
        net[0].weight.fill_(5.0)
        net[1].running_mean.fill_(2.0)
        net[1].num_batches_tracked.fill_(7)
    for _ in range(60):
        average.update(net)
    assert float(average.net[0].weight) == pytest.approx(5.0, rel=0.01)
    assert float(average.net[1].running_mean) == pytest.approx(2.0, rel=0.01)
    assert int(average.net[1].num_batches_tracked) == 7
    with torch.no_grad():
        net[0].weight.fill_(6.0)
    average.update(net)
    assert 5.0 < float(average.net[0].weight) < 5.5, "one step moves it little"


def test_a_restored_average_continues_as_the_one_that_was_saved():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))

    def step(average: ExponentialMovingAverage, value: float) -> None:
        with torch.no_grad():
            net[0].weight.fill_(value)
            net[1].num_batches_tracked.fill_(int(value))
        average.update(net)

    whole = ExponentialMovingAverage(net, 0.5)
    for value in (3.0, 5.0):
        step(whole, value)
    resumed = ExponentialMovingAverage(net, 0.5)
    resumed.load({"model": {key: value.clone() for key, value in whole.net.state_dict().items()}, "steps": 2})
    step(whole, 9.0)
    step(resumed, 9.0)
    expected = 0.25 * (2 / 11 * 3.0 + 9 / 11 * 5.0) + 0.75 * 9.0
    assert float(whole.net[0].weight) == pytest.approx(expected)
    assert float(resumed.net[0].weight) == pytest.approx(expected)
    assert int(resumed.net[1].num_batches_tracked) == 9
