"""Weights of a trained relative: what arrives in a wider, a narrower, a pruned and a different network."""

from __future__ import annotations

import pytest
import torch

from search_spaces import SegmentationNet, get_space
from search_spaces.candidate import Candidate
from search_spaces.pruning.inheritance import inherit_weights
from search_spaces.pruning.prune import prune_network

SPACE = get_space("encoder_decoder", {"decoders": ["lraspp", "fpn", "unet"]})
IMAGE = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)


def candidate(**params: object) -> Candidate:
    default = SPACE.default()
    return Candidate(default.space, default.space_version, {**default.params, **params})


def trained(seed: int = 5, **params: object) -> SegmentationNet:
    """A network with weights and statistics that no fresh one has."""
    net = SPACE.build(candidate(**params), 7, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2.0)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


def logits(net: SegmentationNet) -> torch.Tensor:
    with torch.no_grad():
        return net.eval()(IMAGE)


@pytest.mark.parametrize("family", ["mobilenetv2", "lcnet", "resnet10t", "ese_vovnet19b_dw", "repvgg_a0"])
@pytest.mark.parametrize("decoder", ["lraspp", "unet"])
def test_a_wider_network_computes_what_its_relative_does(family: str, decoder: str):
    choice = {"family": family, "decoder": decoder}
    thin, net = trained(**choice, width=0.5), SPACE.build(candidate(**choice, width=1.0), 7)
    wanted = logits(thin)
    assert 0.1 < inherit_weights(net, thin) < 1.0
    assert torch.allclose(logits(net), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    net.train()(IMAGE.expand(2, -1, -1, -1)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_channels_that_a_wider_network_has_beside_can_learn():
    """They feed nothing into the others at first; what they compute is their own, and not zero."""
    net = SPACE.build(candidate(width=1.0), 7)
    inherit_weights(net, trained(width=0.5))
    first = next(module for module in net.modules() if isinstance(module, torch.nn.Conv2d))
    assert (first.weight.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("family", ["mobilenetv2", "resnet10t"])
def test_a_narrower_network_gets_the_strongest_filters(family: str):
    wide, net = trained(family=family, width=1.0), SPACE.build(candidate(family=family, width=0.5), 7)
    first = next(module for module in wide.modules() if isinstance(module, torch.nn.Conv2d))
    rows = torch.arange(first.out_channels, dtype=torch.float32)
    first.weight.data.copy_(rows.view(-1, 1, 1, 1).expand_as(first.weight) + 1)
    assert inherit_weights(net, wide) == 1.0
    assert torch.equal(logits(net), logits(wide)), "the donor was cut down to the same network"
    mine = next(module for module in net.modules() if isinstance(module, torch.nn.Conv2d))
    kept = set((mine.weight[:, 0, 0, 0] - 1).int().tolist())
    assert len(kept) == mine.out_channels and first.out_channels - 1 in kept and 0 not in kept


def test_a_pruned_relative_passes_on_what_it_has():
    donor = prune_network(trained(width=1.0), 0.5)
    wanted, net = logits(donor), SPACE.build(candidate(width=1.0), 7)
    inherit_weights(net, donor)
    assert torch.allclose(logits(net), wanted, rtol=1e-3, atol=1e-5)
    assert net.prune_ratio == 0.0


def test_another_decoder_stays_as_it_was():
    donor, net = trained(decoder="fpn"), SPACE.build(candidate(decoder="unet"), 7)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    share = inherit_weights(net, donor, encoder_only=True)
    encoder = donor.encoder.state_dict()
    for name, value in net.state_dict().items():
        inner = name.removeprefix("encoder.")
        if name.startswith("encoder.") and inner in encoder:
            assert torch.equal(value, encoder[inner]), name
        else:
            assert torch.equal(value, before[name]), name
    assert 0.0 < share < 1.0


def test_it_is_deterministic_and_nothing_fits_between_strangers():
    nets = [SPACE.build(candidate(width=0.5), 7) for _ in range(2)]
    for net in nets:
        inherit_weights(net, trained(width=1.0))
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))
    stranger = SPACE.build(candidate(family="resnet10t"), 7)
    assert inherit_weights(stranger, trained(family="mobilenetv2"), encoder_only=True) < 0.01
