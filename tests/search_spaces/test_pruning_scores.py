"""Channel importance by each method."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from search_spaces import get_space
from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.pruning.prune import channel_groups, prune_network, select_channels
from search_spaces.pruning.scores import METHODS, channel_dimension, channel_scores

SPACE = get_space("encoder_decoder", {"families": ["resnet18d"], "decoders": ["fpn"], "widths": [0.5]})
INNER = "encoder.layer1.0.conv1"


@pytest.fixture
def net() -> SegmentationNet:
    return SPACE.build(SPACE.default(), 3)


def removed(net: SegmentationNet, method: str, seed: int = 0) -> tuple[int, ...]:
    (selection,) = [s for s in select_channels(net, 0.5, method=method, seed=seed) if s.root == INNER]
    return selection.removed


@pytest.mark.parametrize("method", ["l1", "l2"])
def test_small_filters_leave(net, method):
    with torch.no_grad():
        net.encoder.layer1[0].conv1.weight[5:21] *= 0.01
    assert removed(net, method) == tuple(range(5, 21))


def test_l1_and_l2_differ_on_a_filter_of_one_large_weight(net):
    weight = net.encoder.layer1[0].conv1.weight
    with torch.no_grad():
        weight.fill_(0.1)
        weight[:16] = 0.0
        weight[:16, 0, 0, 0] = 5.0
    assert removed(net, "l1") == tuple(range(16))
    assert set(removed(net, "l2")).isdisjoint(range(16))


def test_channels_that_normalisation_scales_down_leave(net):
    with torch.no_grad():
        net.encoder.layer1[0].bn1.weight[16:] = 0.01
    assert removed(net, "bn_scale") == tuple(range(16, 32))


def test_filters_that_others_stand_in_for_leave(net):
    weight = net.encoder.layer1[0].conv1.weight
    with torch.no_grad():
        weight[8:24] = weight[8:].mean(0)
    assert removed(net, "geometric_median") == tuple(range(8, 24))


def test_random_is_the_seed_and_nothing_else(net):
    first = removed(net, "random", seed=1)
    with torch.no_grad():
        net.encoder.layer1[0].conv1.weight[5:21] *= 0.01
    assert removed(net, "random", seed=1) == first != removed(net, "random", seed=2)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_same_shape(net, method):
    expected = SPACE.build(SPACE.default(), 3)
    prune_network(expected, 0.5)
    prune_network(net, 0.5, method=method)
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in expected.state_dict().items()}


def test_an_unknown_method_names_the_known_ones(net):
    group = channel_groups(net)[0]
    with pytest.raises(ValueError, match=r"l1, l2, bn_scale.*'size'"):
        channel_scores(dict(net.named_modules()), group, "size")


def test_a_transposed_convolution_has_its_output_channels_second():
    assert channel_dimension(nn.ConvTranspose2d(4, 8, 2)) == 1
    assert channel_dimension(nn.ConvTranspose2d(4, 4, 2, groups=4)) == 0
    assert channel_dimension(nn.Conv2d(4, 8, 2)) == 0
