"""Every family with every decoder: shape, width, initialisation."""

from __future__ import annotations

import itertools

import pytest
import timm
import torch
from torch import nn

from search_spaces import get_space, reparameterize, upsample_logits
from search_spaces.networks.backbones import FAMILIES
from search_spaces.networks.decoder_specs import DECODERS
from search_spaces.networks.segmentation_net import SegmentationNet

CLASSES = 5
SPACE = get_space("encoder_decoder", {"families": list(FAMILIES), "decoders": list(DECODERS)})
USUAL_DECODERS = [name for name, spec in DECODERS.items() if spec.by_default]
PAIRS = [
    *itertools.product(FAMILIES, USUAL_DECODERS),
    *itertools.product(("mobilenetv2", "resnet18d", "ese_vovnet19b_dw"), sorted(DECODERS.keys() - USUAL_DECODERS)),
]


def build(family: str, decoder: str = "fpn", width: float = 0.5, *, seed: int = 0) -> SegmentationNet:
    params = {**SPACE.default().params, "family": family, "decoder": decoder, "width": width, "prune_ratio": 0.0}
    return SPACE.build(SPACE.candidate(params), CLASSES, seed=seed)


@pytest.mark.parametrize(("family", "decoder"), PAIRS)
def test_logits_have_the_promised_stride_and_every_layer_is_used(family, decoder):
    net = build(family, decoder)
    logits = net(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, CLASSES, 64 // net.output_stride, 96 // net.output_stride)
    logits.square().sum().backward()
    unused = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert unused == []


@pytest.mark.parametrize("family", FAMILIES)
def test_width_is_honoured_in_multiples_of_eight(family):
    counts = []
    for width in (0.25, 0.5, 0.75, 1.0):
        net = build(family, width=width)
        convolutions = [m for m in net.encoder.modules() if isinstance(m, nn.Conv2d)]
        assert {m.out_channels % 8 for m in convolutions} == {0}
        counts.append(sum(parameter.numel() for parameter in net.encoder.parameters()))
    assert counts == sorted(counts)
    assert counts[1] < 0.45 * counts[3]


@pytest.mark.parametrize("family", FAMILIES)
def test_width_one_is_the_network_timm_has_weights_for(family):
    spec = FAMILIES[family]
    theirs = timm.create_model(spec.variant, features_only=True, out_indices=(1, 2, 3, 4)).state_dict()
    ours = build(family, width=1.0).encoder.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = build("mobilenetv3_small", seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(5)
    again, other = build("mobilenetv3_small", seed=7), build("mobilenetv3_small", seed=8)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.encoder.conv_stem.weight, other.encoder.conv_stem.weight)


@pytest.mark.parametrize("family", ["repvgg_a0", "mobilenetv2"])
def test_deployable_computes_the_same_with_its_branches_merged(family):
    net = build(family)
    images = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        for _ in range(3):
            net(images)  # moves the batch statistics off their initial values
        names = list(net.state_dict())
        merged = reparameterize(net)
        expected = net.eval()(images)
        assert (merged(images) - expected).abs().max() < 1e-4 * expected.abs().max()
    assert not merged.training
    assert list(net.state_dict()) == names
    if family == "repvgg_a0":
        assert len(list(merged.modules())) < len(list(net.modules()))


def test_upsampled_logits_keep_pixel_centres():
    logits = torch.tensor([[[[0.0, 1.0]]]])
    assert upsample_logits(logits, (1, 4)).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]
    assert upsample_logits(logits, (1, 2)) is logits


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="2 classes"):
        SPACE.build(SPACE.default(), 1)
