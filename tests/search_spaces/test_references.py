"""Hand-made networks are those of their papers: parameters and arithmetic as published."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import UserError, get_space
from search_spaces.spaces.references import REFERENCES

SPACE = get_space("references", {"widths": [0.25, 1.0], "resolutions_px": [[64, 64], [1024, 2048]]})
CITYSCAPES_CLASSES = 19

# Parameters in millions, and multiply-accumulates in 1e9 at 1024x2048, of the papers (U-Net: of its widespread padded form with
# batch norm). Fast-SCNN and U-Net publish no figure for the second.
PUBLISHED = {
    "fast_scnn": (1.11, None),
    "ddrnet23_slim": (5.7, 36.3),
    "pidnet_s": (7.6, 47.6),
    "unet": (31.04, None),
}


def test_every_network_is_held_against_its_paper() -> None:
    assert PUBLISHED.keys() == REFERENCES.keys()


@pytest.mark.parametrize("name", REFERENCES)
def test_size_and_arithmetic_are_the_published_ones(name: str) -> None:
    params = {**SPACE.default().params, "family": name, "width": 1.0, "resolution": "1024x2048"}
    with torch.device("meta"):
        net = SPACE.build(SPACE.candidate(params), CITYSCAPES_CLASSES).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            logits = net(torch.empty(1, 3, 1024, 2048))
    millions, macs = PUBLISHED[name]
    assert sum(value.numel() for value in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)
    if macs is not None:
        assert counter.get_total_flops() / 2e9 == pytest.approx(macs, rel=0.03)
    stride = REFERENCES[name].output_stride
    assert logits.shape == (1, CITYSCAPES_CLASSES, 1024 // stride, 2048 // stride)


@pytest.mark.parametrize("name", REFERENCES)
def test_every_layer_is_used(name: str) -> None:
    params = {**SPACE.default().params, "family": name, "width": 0.25, "resolution": "64x64"}
    net = SPACE.build(SPACE.candidate(params), 3)
    net(torch.randn(2, 3, 64, 96)).square().sum().backward()
    assert [key for key, value in net.named_parameters() if value.grad is None] == []


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="pidnet_s"):
        get_space("references", {"families": ["pidnet"]})
    with pytest.raises(UserError, match="no pretrained weights"):
        SPACE.load_pretrained(SPACE.build(SPACE.default(), 3), SPACE.default(), "hub")
