"""Channels are drawn to zero while the network trains, so that their removal changes little; and training stays resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces import get_space, open_space
from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.pruning.prune import channel_groups, remove_channels, uniform_plan
from trial_runner.config.study import AdmmSection, PruningSection, StudyConfig
from trial_runner.training.admm import Admm
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.pruning_stage import PruningStage
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import Progress, TrialSpec

SPACE = get_space("encoder_decoder", {"families": ["lcnet"], "decoders": ["lraspp"], "widths": [0.25]})
IMAGES = torch.rand(4, 3, 32, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> SegmentationNet:
    return SPACE.build(SPACE.default(), 3, seed=1)


def train(net: SegmentationNet, admm: Admm, steps: range, every: int = 10) -> torch.optim.Optimizer:
    """A few steps that draw the logits to a fixed map, with the auxiliary variables' steps and updates."""
    target = torch.rand(4, 3, 4, 8, generator=torch.Generator().manual_seed(5))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    for step in steps:
        loss = (net(IMAGES) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        admm.step(net, optimizer)
        if (step + 1) % every == 0:
            admm.update(net)
    return optimizer


def plan_of(net: SegmentationNet) -> dict[str, int]:
    return uniform_plan(channel_groups(net), 0.5)


def test_one_round_is_that_of_the_paper(net):
    """W, Z and U of one layer, followed by hand."""
    admm = Admm(net, plan_of(net), AdmmSection(rho=2.0, rho_growth=4.0, updates=1))
    selection = admm.selections[0]
    layer = dict(net.named_modules())[selection.root]
    leaving = list(selection.removed)
    staying = [c for c in range(layer.out_channels) if c not in leaving]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    before = layer.weight.detach().clone()
    admm.step(net, optimizer)  # U = 0, Z = 0: W / (1 + lr rho)
    assert torch.allclose(layer.weight[leaving], before[leaving] / 2.0)
    assert torch.equal(layer.weight[staying], before[staying])
    first = layer.weight.detach().clone()
    admm.update(net)  # U = W, in units of 1 / rho: W / 4, and rho = 8
    admm.step(net, optimizer)
    assert torch.allclose(layer.weight[leaving], (first[leaving] - 4.0 * first[leaving] / 4.0) / 5.0, atol=1e-6)
    assert torch.equal(layer.weight[staying], before[staying])


def test_what_leaves_is_drawn_to_zero_and_its_removal_changes_little(net):
    plan = plan_of(net)
    admm = Admm(net, plan, AdmmSection(rho=1.0, rho_growth=2.0, updates=8))
    start = admm.residual(net)
    train(net, admm, range(80))
    assert admm.residual(net) < 0.02 * start
    net.eval()
    with torch.no_grad():
        before = net(IMAGES)
        remove_channels(net, admm.selections, 0.5)
        after = net(IMAGES)
    assert (after - before).abs().max() < 0.02 * before.std()
    modules = dict(net.named_modules())
    assert {root: modules[root].out_channels for root in plan} == plan


def test_the_choice_is_frozen_in_the_second_half(net):
    admm = Admm(net, plan_of(net), AdmmSection(updates=4))
    train(net, admm, range(20))
    chosen = admm.selections
    with torch.no_grad():
        for selection in chosen:
            dict(net.named_modules())[selection.root].weight[list(selection.removed)] = 10.0
    admm.update(net)
    assert admm.updates == 3 and admm.selections == chosen


def test_a_state_goes_on_bit_for_bit(net):
    config = AdmmSection(updates=4)
    admm = Admm(net, plan_of(net), config)
    train(net, admm, range(15))
    again = SPACE.build(SPACE.default(), 3)
    again.load_state_dict(net.state_dict())
    resumed = Admm(again, plan_of(again), config)
    resumed.load(again, admm.state())
    train(net, admm, range(15, 30))
    train(again, resumed, range(15, 30))
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    assert admm.selections == resumed.selections


def test_the_cut_takes_the_channels_that_admm_chose(net):
    stage = PruningStage(PruningSection(method="admm"), 0.5, None, cut_epoch=2, seed=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    inner = dict(net.named_modules())
    weights = {name: module.weight for name, module in inner.items() if isinstance(module, nn.Conv2d)}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    stage.after_step(net, optimizer, 0.1)  # before `start_after`
    assert stage.state() is None
    stage.after_step(net, optimizer, 1.9)
    state = stage.state()
    assert state is not None
    with torch.no_grad():  # after which an L1 ranking would choose others
        for root, removed in state["removed"].items():
            weights[root][removed] = 100.0
    stage.cut(net)
    for root, removed in state["removed"].items():
        stays = [c for c in range(len(before[root])) if c not in removed]
        assert inner[root].out_channels == len(stays)
        assert inner[root].weight.abs().max() < 100.0


def test_without_an_epoch_before_the_cut_admm_is_l1(net):
    twin = SPACE.build(SPACE.default(), 3, seed=1)
    PruningStage(PruningSection(method="admm"), 0.5, None, cut_epoch=0, seed=0).cut(net)
    PruningStage(PruningSection(), 0.5, None, cut_epoch=0, seed=0).cut(twin)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True))


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., TrialSpec]:
    def make(folder: str, ratio: float = 0.5, channels: dict[str, int] | None = None, **pruning: Any) -> TrialSpec:
        config = StudyConfig.model_validate(
            {
                "study": {"name": "admm", "storage": "sqlite://", "output_dir": tmp_path, "seed": 3},
                "data": {
                    "kind": "synthetic",
                    "train_images": 12,
                    "val_images": 4,
                    "image_height_px": 32,
                    "image_width_px": 64,
                },
                "space": {
                    "families": ["lcnet"],
                    "decoders": ["lraspp"],
                    "widths": [0.25],
                    "resolutions_px": [[32, 64]],
                    "prune_ratios": [ratio],
                },
                "device": {"latency_model": tmp_path / "none.json", "latency_budget_ms": 1000},
                "training": {"epochs": 4, "batch_size": 4, "prune_after": 0.75, "pruning": pruning},
            }
        )
        space = open_space(config.space)
        return TrialSpec(0, space.default(), config, tmp_path / folder, tmp_path / "cache", channels=channels)

    return make


def run(spec: TrialSpec, until: int = 99) -> Progress:
    readings: list[Progress] = []
    run_trial(spec, lambda progress: bool(readings.append(progress)) or progress.epoch >= until)
    return readings[-1]


def test_interrupted_admm_gives_bit_for_bit_what_an_uninterrupted_one_gives(order):
    admm = {"method": "admm", "admm": {"updates": 4, "start_after": 0.2}}
    whole, parts = order("whole", **admm), order("parts", **admm)
    curve = run(whole).curve
    for until in (1, 2, 3):
        run(parts, until)
    checkpoint = load_checkpoint(parts.checkpoint_path, parts.fingerprint)
    assert checkpoint is not None and not checkpoint.pruned and checkpoint.pruning is not None
    assert run(parts).curve == curve
    left, right = (load_checkpoint(spec.checkpoint_path, spec.fingerprint) for spec in (whole, parts))
    assert left is not None and right is not None and left.pruned and left.pruning is None
    assert all(torch.equal(left.model[key], right.model[key]) for key in left.model)
    plain = order("plain")
    run(plain)
    other = load_checkpoint(plain.checkpoint_path, plain.fingerprint)
    assert other is not None and {k: v.shape for k, v in other.model.items()} == {
        k: v.shape for k, v in left.model.items()
    }
    assert not all(torch.equal(other.model[key], left.model[key]) for key in left.model)


def test_at_ratio_zero_admm_is_exactly_the_unpruned_training(order):
    plain, admm = order("plain", 0.0), order("admm", 0.0, method="admm")
    assert run(plain).curve == run(admm).curve
    left, right = (load_checkpoint(spec.checkpoint_path, spec.fingerprint) for spec in (plain, admm))
    assert left is not None and right is not None
    assert all(torch.equal(left.model[key], right.model[key]) for key in left.model)


@pytest.mark.parametrize("method", ["l1", "admm"])
def test_a_trial_is_cut_to_the_plan_that_its_order_carries(order, method):
    spec = order("planned", method=method)
    space = open_space(spec.config.space)
    groups = channel_groups(space.build(spec.candidate, 14))
    plan = {group.root: group.channels - 8 * (index % 2) * (group.channels > 8) for index, group in enumerate(groups)}
    spec = TrialSpec.from_dict(replace(spec, channels=plan).to_dict())
    assert spec.channels == plan
    run(spec, until=2)
    run(spec)
    checkpoint = load_checkpoint(spec.checkpoint_path, spec.fingerprint)
    assert checkpoint is not None
    assert {root: len(checkpoint.model[f"{root}.weight"]) for root in plan} == plan
