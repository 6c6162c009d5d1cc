"""Names of a candidate's network in tables and logs."""

from __future__ import annotations

from search_spaces import get_space
from search_spaces.describe import network_name, stage_words


def test_each_space_has_its_words() -> None:
    usual = get_space("encoder_decoder", {}).default().params
    assert network_name(usual) == "mobilenetv2 ×1 + fpn"
    options = {
        "families": ["resnet18"],
        "decoders": ["deeplabv3"],
        "depths": [0.5],
        "output_strides": [8],
        "upsamplings": ["transposed"],
    }
    full = get_space("encoder_decoder", options).default().params
    assert network_name(full) == "resnet18 ×1 depth ×0.5 stride 8 + deeplabv3 transposed"
    assert network_name(get_space("references", {}).default().params) == "fast_scnn ×1"
    stages = get_space("mobile_stages", {}).default().params
    assert network_name({**stages, "stage2_se": True, "stage2_width": 0.5}) == (
        "k3e6d3×1 k3e6d3×0.5se k3e6d3×1 k3e6d3×1 k3e6d3×1 relu + fpn ×1"
    )
    assert stage_words(usual) == ""
