"""Kernels of a network pruned by a plan, and what each group of channels costs."""

from __future__ import annotations

import pytest
from pruned_networks import uneven

from hw_latency_model import kernels_from_module
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.kernels.pruning_costs import group_of_convolutions, macs_of
from search_spaces import Candidate, get_space
from search_spaces.pruning.groups import ChannelGroup, GroupMember
from search_spaces.pruning.prune import prune_network

CLASSES = 5
SPACE = get_space("encoder_decoder", {"prune_ratios": [0.0, 0.5], "resolutions_px": [[64, 64], [160, 224]]})
FAMILIES = ["mobilenetv2", "mobilenetv3_small", "resnet18d", "repvgg_a0", "ese_vovnet19b_dw"]


def candidate(family: str, ratio: float = 0.5) -> Candidate:
    params = {"family": family, "decoder": "fpn", "width": 0.5, "resolution": "160x224", "prune_ratio": ratio}
    return SPACE.candidate({**SPACE.default().params, **params})


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_of_a_planned_candidate_are_those_of_the_network_pruned_by_the_plan(family):
    net = SPACE.build(candidate(family), CLASSES)
    plan = uneven(net)
    quick = CandidateKernels(SPACE, CLASSES, plan_of=lambda chosen: plan)
    built = kernels_from_module(prune_network(net, 0.5, plan=plan), (160, 224))
    told = [{**kernel.to_dict(), "name": ""} for kernel in quick(candidate(family))]
    assert told == [{**kernel.to_dict(), "name": ""} for kernel in built]


@pytest.mark.parametrize("family", FAMILIES)
def test_macs_by_group_foretell_the_macs_of_the_pruned_network(family):
    quick = CandidateKernels(SPACE, CLASSES)
    net = SPACE.build(candidate(family), CLASSES)
    plan = uneven(net)
    channels = {group.root: group.channels for group in quick.groups(candidate(family))}
    terms = quick.dense_costs(candidate(family), macs_of)
    foretold = 0.0
    for term in terms:
        share = 1.0
        for root in term.groups:
            share *= plan[root] / channels[root]
        foretold += term.cost * share
    dense = sum(kernel.macs for kernel in quick(candidate(family, 0.0)))
    assert sum(term.cost for term in terms) == dense
    pruned = sum(kernel.macs for kernel in CandidateKernels(SPACE, CLASSES, plan_of=lambda c: plan)(candidate(family)))
    # A convolution that reads a concatenation of several groups is taken to read all of its channels still.
    assert foretold == pytest.approx(pruned, rel=0.5 if "vovnet" in family else 1e-6)


def test_a_merged_convolution_belongs_to_the_group_of_its_branches():
    branches = tuple(GroupMember(f"stage.0.{name}.conv", (0,), (0,)) for name in ("kxk", "1x1"))
    groups = (
        ChannelGroup("stage.0.kxk.conv", 8, branches),
        ChannelGroup("stem", 8, (GroupMember("stem", (0,), (0,)),)),
    )
    find = group_of_convolutions(groups)
    assert find("stage.0.reparam_conv") == "stage.0.kxk.conv"
    assert find("stem") == "stem"
    assert find("head") is None and find("stage.1.reparam_conv") is None
