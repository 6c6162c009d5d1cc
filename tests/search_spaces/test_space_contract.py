"""What every point of every space must do: build, train a step, prune, train on, be stored and loaded."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from search_spaces import SPACES, get_space, upsample_logits
from search_spaces.networks import SegmentationNet

CLASSES = 4


def train_step(net: SegmentationNet, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    labels = torch.randint(0, CLASSES, (2, 64, 64), generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    loss = functional.cross_entropy(upsample_logits(net.train()(images), (64, 64)), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_any_candidate_goes_all_the_way(name, seed):
    space = get_space(name, {})
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
