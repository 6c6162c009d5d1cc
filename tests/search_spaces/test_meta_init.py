"""A network built without weights has the shapes of the one with them."""

from __future__ import annotations

import torch
from timm.utils.model import reparameterize_model

from search_spaces import get_space
from search_spaces.networks.meta_init import meta_init


def test_shapes_are_those_of_the_network_with_weights() -> None:
    space = get_space("encoder_decoder", {"families": ["repvgg_a0", "mobilenetv3_small"], "widths": [0.25]})
    for family in ("repvgg_a0", "mobilenetv3_small"):
        candidate = space.candidate({**space.default().params, "family": family})
        with meta_init():
            empty = reparameterize_model(space.build(candidate, 3).eval(), inplace=True)
        full = reparameterize_model(space.build(candidate, 3).eval(), inplace=True)
        shapes = {name: tensor.shape for name, tensor in full.state_dict().items()}
        assert {name: tensor.shape for name, tensor in empty.state_dict().items()} == shapes
        assert all(tensor.is_meta for tensor in empty.parameters())


def test_what_is_made_afterwards_is_filled() -> None:
    with meta_init():
        torch.nn.Linear(2, 2)
    layer = torch.nn.BatchNorm2d(3)
    assert torch.equal(layer.weight, torch.ones(3)) and not layer.weight.is_meta
