"""Allocation of the prune ratio to channel groups, and networks pruned by it."""

from __future__ import annotations

import math

import pytest
import torch
from pruned_networks import uneven

from search_spaces import Candidate, get_space
from search_spaces.pruning.allocation import CostTerm, allocate_sparsity, score_sensitivity
from search_spaces.pruning.groups import ChannelGroup
from search_spaces.pruning.prune import (
    channel_groups,
    fit_shape,
    kept_channels,
    prune_network,
    select_channels,
    uniform_plan,
)

SPACE = get_space("encoder_decoder", {})
WIDE, NARROW, CHEAP = (ChannelGroup(name, channels, ()) for name, channels in (("w", 128), ("n", 32), ("c", 128)))
GROUPS = (WIDE, NARROW, CHEAP)
TERMS = (CostTerm(8.0, ("w",)), CostTerm(4.0, ("w", "n")), CostTerm(1.0, ("c",)), CostTerm(0.5, ()))


def candidate(family: str, decoder: str = "fpn", width: float = 0.5) -> Candidate:
    params = {"family": family, "decoder": decoder, "width": width, "prune_ratio": 0.0}
    return SPACE.candidate({**SPACE.default().params, **params})


def cost(plan: dict[str, int]) -> float:
    shares = {group.root: plan[group.root] / group.channels for group in GROUPS}
    return 8 * shares["w"] + 4 * shares["w"] * shares["n"] + shares["c"] + 0.5


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_the_dear_group_gives_more_and_the_cost_is_that_of_uniform_pruning(ratio):
    plan, even = allocate_sparsity(GROUPS, TERMS, ratio), uniform_plan(GROUPS, ratio)
    assert cost(plan) <= cost(even)
    assert cost({**plan, "w": plan["w"] + 8}) > cost(even)  # not more than it takes
    assert plan["w"] < even["w"] and plan["c"] > even["c"]
    assert plan["w"] >= kept_channels(128, (1 + ratio) / 2)
    assert plan == allocate_sparsity(GROUPS, TERMS, ratio)


def test_channels_stay_at_the_multiple():
    plan = allocate_sparsity(GROUPS, TERMS, 0.5, multiple=16)
    assert {count % 16 for count in plan.values()} == {0}
    assert uniform_plan(GROUPS, 0.3, 32) == {"w": 96, "n": 32, "c": 96}


def test_ratio_zero_takes_nothing():
    assert allocate_sparsity(GROUPS, TERMS, 0.0) == {"w": 128, "n": 32, "c": 128}


def test_a_layer_with_weak_filters_gives_more():
    same = (CostTerm(1.0, ("w",)), CostTerm(1.0, ("c",)))
    weak = [0.01] * 100 + [1.0] * 28
    sensitivity = score_sensitivity({"w": weak, "c": [1.0] * 128})
    plan = allocate_sparsity((WIDE, CHEAP), same, 0.5, sensitivity=sensitivity)
    assert plan["w"] == 32 and plan["c"] == 96  # down to half of uniform's for the one
    assert (
        sensitivity(WIDE, 128) == 0.0
        and sensitivity(WIDE, 28) == pytest.approx(math.log(29 / 28))
        and sensitivity(CHEAP, 64) == pytest.approx(math.log(2))
    )


@pytest.mark.parametrize("family", ["mobilenetv2", "mobilenetv3_small", "resnet18d", "repvgg_a0", "ese_vovnet19b_dw"])
@pytest.mark.parametrize("decoder", ["fpn", "lraspp"])
def test_a_network_pruned_by_a_plan_computes_what_the_zeroed_one_does(family, decoder):
    net = SPACE.build(candidate(family, decoder), 4, seed=1).eval()
    plan = uneven(net)
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.copy_(torch.randn(module.weight.shape, generator=generator))
            module.bias.data.copy_(torch.randn(module.bias.shape, generator=generator))
    images = torch.rand(1, 3, 64, 64)
    dense = SPACE.build(candidate(family, decoder), 4)
    dense.load_state_dict(net.state_dict())
    modules = dict(dense.eval().named_modules())
    for selection in select_channels(net, 0.5, plan=plan):
        for name, channels in selection.members:
            for parameter in modules[name].parameters(recurse=False):
                parameter.data[list(channels)] = 0.0
    prune_network(net, 0.5, plan=plan)
    modules = dict(net.named_modules())
    assert {root: modules[root].out_channels for root in plan} == plan
    with torch.no_grad():
        expected, actual = dense(images), net(images)
    assert (expected - actual).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("family", ["mobilenetv2", "repvgg_a0"])
def test_a_network_as_built_takes_the_shape_of_any_state_saved_from_it(family):
    net = SPACE.build(candidate(family), 4, seed=1)
    prune_network(net, 0.5, plan=uneven(net), method="random", seed=7)
    state = net.state_dict()
    again = fit_shape(SPACE.build(candidate(family), 4), state)
    again.load_state_dict(state)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.eval()(images), net.eval()(images))
    assert 0 < again.prune_ratio < 1


def test_a_state_of_the_network_as_built_changes_nothing():
    net = SPACE.build(candidate("lcnet"), 4)
    parameters = list(net.parameters())
    assert fit_shape(net, SPACE.build(candidate("lcnet"), 4, seed=9).state_dict()) is net
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True)) and not net.prune_ratio


def test_a_state_of_another_network_is_left_to_torch_to_refuse():
    net = fit_shape(SPACE.build(candidate("lcnet"), 4), SPACE.build(candidate("mobilenetv2"), 4).state_dict())
    with pytest.raises(RuntimeError, match="load"):
        net.load_state_dict(SPACE.build(candidate("mobilenetv2"), 4).state_dict())


def test_groups_are_found_on_the_meta_device_too():
    with torch.device("meta"):
        meta = channel_groups(SPACE.build(candidate("mobilenetv3_small"), 4))
    assert meta == channel_groups(SPACE.build(candidate("mobilenetv3_small"), 4))
