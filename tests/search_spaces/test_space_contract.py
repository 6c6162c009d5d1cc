"""Contract of every point of every space: build, train a step, prune exactly, train on, be stored, loaded, exported, and pass
the lint for the Jetson Nano."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from pruned_networks import zeroed
from torch import nn
from torch.nn import functional

from exports import export_onnx, get_profile, lint_onnx
from search_spaces import SPACES, get_space, upsample_logits
from search_spaces.networks.decoder_specs import DECODERS
from search_spaces.networks.segmentation_net import SegmentationNet

CLASSES = 4
SMALL = {"resolutions_px": [[64, 64], [64, 96], [96, 64]], "prune_ratios": [0.0, 0.25, 0.5, 0.8]}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "encoder_decoder": [
        {},
        {
            **SMALL,
            "decoders": list(DECODERS),
            "widths": {"low": 0.2, "high": 1.2},
            "depths": [0.5, 1.0, 1.5],
            "output_strides": [8, 16, 32],
            "upsamplings": ["bilinear", "transposed"],
        },
    ],
    "mobile_stages": [{**SMALL, "decoders": list(DECODERS), "output_strides": [16, 32], "upsamplings": ["transposed"]}],
    "references": [{**SMALL, "widths": [0.25, 0.5]}],
}
CASES = [
    pytest.param(name, options, id=f"{name}{index}") for name in SPACES for index, options in enumerate(OPTIONS[name])
]
QUICK = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


def train_step(net: SegmentationNet, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    labels = torch.randint(0, CLASSES, (2, 64, 64), generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    loss = functional.cross_entropy(upsample_logits(net.train()(images), (64, 64)), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def unsettle(net: nn.Module, seed: int) -> None:
    """Statistics as arbitrary as a training's: those of a fresh network hide what a lost channel would do."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES)
@settings(max_examples=7, **QUICK)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_candidate_goes_all_the_way(name, options, seed):
    space = get_space(name, options)
    candidate = space.sample(np.random.default_rng(seed))
    net = space.build(candidate, CLASSES, seed=seed % 1000)
    assert net.input_hw == space.input_hw(candidate)
    assert np.isfinite(train_step(net, seed % 1000))
    space.prune(net, candidate)
    assert np.isfinite(train_step(net, seed % 1000 + 1))

    stored = io.BytesIO()
    torch.save(net.state_dict(), stored)
    stored.seek(0)
    loaded = space.build_pruned(candidate, CLASSES)
    loaded.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    height, width = space.input_hw(candidate)
    images = torch.rand(1, 3, height, width)
    with torch.no_grad():
        logits = net.eval()(images)
        assert torch.equal(logits, loaded.eval()(images))
    assert logits.shape == (1, CLASSES, height // net.output_stride, width // net.output_stride)
    assert torch.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES[1:])
@settings(max_examples=6, **QUICK)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_pruned_network_computes_what_the_whole_one_does_without_those_channels(name, options, seed):
    space = get_space(name, options)
    candidate = space.sample(np.random.default_rng(seed))
    ratio = max(space.prune_ratio(candidate), 0.25)
    candidate = space.candidate({**candidate.params, "prune_ratio": ratio})
    net = space.build(candidate, CLASSES, seed=seed % 1000).eval()
    unsettle(net, seed % 1000)
    dense = zeroed(net, ratio)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        whole, expected, actual = net(images), dense(images), space.prune(net, candidate)(images)
    assert (expected - actual).abs().max() <= 1e-3 * expected.abs().max()
    assert not torch.allclose(whole, expected)
    predicted = space.build_pruned(candidate, CLASSES)
    assert {k: v.shape for k, v in predicted.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES[1:])
@settings(max_examples=4, **QUICK)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_jetson_nano_takes_any_candidate(name, options, seed, tmp_path_factory):
    space = get_space(name, options)
    candidate = space.sample(np.random.default_rng(seed))
    path: Path = tmp_path_factory.mktemp("nano") / "net.onnx"
    profile = get_profile("jetson-nano")
    export_onnx(space.build_pruned(candidate, CLASSES), space.input_hw(candidate), path, opset=profile.opset)
    assert [finding.message for finding in lint_onnx(path, profile) if finding.severity != "info"] == []
