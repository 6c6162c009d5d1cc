"""Arithmetic worked by hand, and that counting leaves no trace."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from exports.onnx.export import onnx_model
from exports.onnx.graph import count_graph_macs
from objectives.cost import NetworkCost, count_macs, count_params, deployed_cost
from search_spaces import get_space, reparameterize


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(torch.relu(self.norm(self.conv(x))))
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
        return self.head(x.mean(dim=(2, 3)))


# conv: 8x12 outputs x 8 x 27; depth-wise: 8x12 x 8 x 9; head: 8 x 5. Normalising and resizing do not count.
MACS = 8 * 12 * 8 * 27 + 8 * 12 * 8 * 9 + 8 * 5


def test_macs_worked_by_hand():
    assert count_macs(Small(), (16, 24)) == MACS


def test_a_net_on_the_meta_device_costs_the_same_and_stays_there():
    with torch.device("meta"):
        net = Small()
    assert count_macs(net, (16, 24)) == MACS
    assert all(parameter.is_meta for parameter in net.parameters())


def test_counting_is_quiet_and_leaves_no_trace(capfd, recwarn):
    net = Small()
    net.train()
    net.norm.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    count_macs(net, (16, 24))
    assert net.training
    assert net.conv.training
    assert not net.norm.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_params_count_a_shared_one_once_and_no_buffers():
    net = Small()
    assert count_params(net) == 8 * 27 + 2 * 8 + (8 * 9 + 8) + (8 * 5 + 5)
    tied = nn.Sequential(net.head, net.head)
    assert count_params(tied) == 45


def test_a_network_is_counted_as_it_is_deployed_without_its_training_branches():
    space = get_space("encoder_decoder", {"families": ["repvgg_a0", "lcnet"], "prune_ratios": [0.0]})
    rng = np.random.default_rng(0)
    found = {}
    while len(found) < 2:
        candidate = space.sample(rng)
        found[candidate.params["family"]] = candidate
    for family, candidate in found.items():
        net, hw = space.build(candidate, 5), space.input_hw(candidate)
        before = count_params(net)
        cost = deployed_cost(net, hw)
        assert count_params(net) == before, "a copy is merged"
        if family == "lcnet":
            assert (cost.macs, cost.parameters) == (count_macs(net, hw), before)
        else:
            assert cost.macs < count_macs(net, hw) and cost.parameters < before
            assert cost == NetworkCost(count_macs(reparameterize(net), hw), count_params(reparameterize(net)))


@pytest.mark.parametrize(
    ("space", "options"),
    [
        ("encoder_decoder", {"families": ["resnet10t", "mobilenetv3_small"], "decoders": ["deeplabv3plus", "unet"]}),
        ("encoder_decoder", {"families": ["repvgg_a0"], "upsamplings": ["transposed"]}),
        ("references", {"families": ["pidnet_s", "unet"], "widths": [0.25]}),
    ],
)
def test_macs_are_those_that_fvcore_and_the_exported_file_count(space: str, options: dict):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis
    made = get_space(space, {**options, "resolutions_px": [[64, 96]]})
    net = reparameterize(made.build_pruned(made.sample(np.random.default_rng(0)), 5))
    analysis = FlopCountAnalysis(net, torch.zeros(1, 3, 64, 96))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    theirs = sum(analysis.by_operator().get(name, 0) for name in ("conv", "linear", "addmm", "matmul", "mm", "bmm"))
    assert count_macs(net, (64, 96)) == theirs == count_graph_macs(onnx_model(net, (64, 96)))
