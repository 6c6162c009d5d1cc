"""Pruning takes whole channels away, and nothing else changes."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from pruned_networks import shapes, zeroed
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import Candidate, get_space
from search_spaces.networks.backbones import FAMILIES
from search_spaces.networks.decoder_specs import DECODERS
from search_spaces.pruning.prune import kept_channels, prune_network, select_channels

CLASSES = 5
SPACE = get_space("encoder_decoder", {"families": list(FAMILIES)})
USUAL_DECODERS = [name for name, spec in DECODERS.items() if spec.by_default]


def candidate(family: str, ratio: float, decoder: str = "fpn", width: float = 0.5) -> Candidate:
    params = {"family": family, "decoder": decoder, "width": width, "prune_ratio": ratio}
    return SPACE.candidate({**SPACE.default().params, **params})


def shake(net: nn.Module, seed: int) -> None:
    """Weights and statistics as arbitrary as a long training's, with a few channels near zero."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            scale = torch.rand(module.out_channels, 1, 1, 1, generator=generator) ** 3
            module.weight.data = torch.randn(module.weight.shape, generator=generator) * scale * 0.3
        elif isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)


def macs(net: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 64, 64))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("decoder", USUAL_DECODERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_pruning_equals_zeroing_and_its_shape_is_known_before_training(family, decoder):
    chosen = candidate(family, 0.5, decoder)
    net = SPACE.build(chosen, CLASSES, seed=1)
    shake(net, seed=2)
    net.eval()
    dense = zeroed(net, 0.5)
    assert SPACE.prune(net, chosen) is net
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)  # a hundred layers amplify what float32 rounds
    with torch.no_grad():
        expected, actual = dense.double()(images), net.double()(images)
    assert (expected - actual).abs().max() <= 1e-9 * expected.abs().max()
    assert expected.std() > 0
    predicted = SPACE.build_pruned(chosen, CLASSES)
    assert shapes(predicted) == shapes(net)
    predicted.load_state_dict(net.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(predicted.double().eval()(images), actual)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_ratio_is_smaller_and_keeps_multiples_of_eight(family):
    costs = []
    for ratio in (0.0, 0.25, 0.5, 0.75):
        net = SPACE.build(candidate(family, 0.0, width=1.0), CLASSES)
        prune_network(net, ratio)
        counts = {m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)} - {CLASSES}
        assert {count % 8 for count in counts} == {0}
        assert all(c.out_channels == CLASSES for c in net.classifiers)
        costs.append((macs(net), sum(parameter.numel() for parameter in net.parameters())))
    assert all(more[0] > less[0] and more[1] > less[1] for more, less in itertools.pairwise(costs))
    assert costs[2][0] == pytest.approx(0.25 * costs[0][0], rel=0.35)


def test_the_weakest_filters_leave():
    net = SPACE.build(candidate("resnet18d", 0.5), CLASSES)
    inner = net.encoder.layer1[0].conv1
    with torch.no_grad():
        inner.weight[5:21] *= 0.01
    (selection,) = [s for s in select_channels(net, 0.5) if s.root == "encoder.layer1.0.conv1"]
    assert selection.removed == tuple(range(5, 21))
    prune_network(net, 0.5)
    assert net.encoder.layer1[0].conv1.weight.abs().mean() > 0.5 * net.encoder.layer1[0].conv2.weight.abs().mean()


def test_pruning_is_deterministic_and_leaves_mode_and_random_state_alone():
    chosen = candidate("mobilenetv3_large", 0.5, "lraspp")
    net = SPACE.build(chosen, CLASSES)
    net.encoder.eval()
    net.decoder.train()
    twin = copy.deepcopy(net)
    state = torch.get_rng_state()
    SPACE.prune(net, chosen)
    assert torch.equal(torch.get_rng_state(), state)
    assert (net.encoder.training, net.decoder.training) == (False, True)
    with torch.no_grad():
        SPACE.prune(twin, chosen)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True))


def test_ratio_zero_is_the_same_network():
    net = SPACE.build(candidate("lcnet", 0.0), CLASSES)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    parameters = list(net.parameters())
    assert SPACE.prune(net, candidate("lcnet", 0.0)) is net
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("channels", "ratio", "kept"),
    [
        (64, 0.5, 32),
        (64, 0.25, 48),
        (40, 0.5, 24),
        (16, 0.25, 16),
        (24, 0.9, 8),
        (8, 0.9, 8),
        (4, 0.5, 4),
        (12, 0.5, 8),
    ],
)
def test_channels_kept(channels, ratio, kept):
    assert kept_channels(channels, ratio) == kept


def test_pruning_twice_or_beyond_all_is_refused():
    net = prune_network(SPACE.build(candidate("lcnet", 0.5), CLASSES), 0.5)
    with pytest.raises(ValueError, match="already"):
        prune_network(net, 0.5)
    with pytest.raises(ValueError, match="below 1"):
        prune_network(SPACE.build(candidate("lcnet", 0.5), CLASSES), 1.0)
