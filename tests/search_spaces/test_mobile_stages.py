"""The space of mobile encoders: each dimension changes its own stage, and known networks are points of it."""

from __future__ import annotations

import pytest
from pruned_networks import shapes
from torch import nn

from search_spaces import UserError, get_space
from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.spaces.config import SpaceSection

SPACE = get_space("mobile_stages", {})
CLASSES = 3


def build(**changes: object) -> SegmentationNet:
    return SPACE.build(SPACE.candidate({**SPACE.default().params, **changes}), CLASSES)


def changed_stages(**changes: object) -> set[str]:
    """Blocks of the encoder whose shape differs from the default's."""
    usual, other = shapes(build().encoder), shapes(build(**changes).encoder)
    names = {name for name in usual.keys() | other.keys() if usual.get(name) != other.get(name)}
    return {name.split(".")[1] for name in names}


def test_a_stage_is_shaped_by_its_own_dimensions() -> None:
    assert changed_stages(stage2_kernel=5) == {"2"}
    assert changed_stages(stage3_expansion=2) == {"3"}
    assert changed_stages(stage4_depth=1) == {"4"}
    assert changed_stages(stage2_width=0.5) == {"2", "3"}, "the next stage reads what this one writes"
    assert changed_stages(stage5_se=True) == {"5"}
    assert changed_stages(activation="hard_swish") == set()
    assert any(
        isinstance(module, nn.Hardswish) or "HardSwish" in type(module).__name__
        for module in build(activation="hard_swish").modules()
    )


def test_depth_counts_blocks_and_channels_are_multiples_of_eight() -> None:
    net = build(stage1_depth=1, stage3_depth=4, stage2_width=0.75, stage4_se=True)
    assert [len(stage) for stage in net.encoder.blocks] == [1, 1, 3, 4, 3, 3]
    counts = {module.out_channels % 8 for module in net.encoder.modules() if isinstance(module, nn.Conv2d)}
    assert counts == {0}


def test_ids_are_a_contract() -> None:
    # Stored studies and caches are keyed by these. If this fails, raise the space's version.
    candidate = SPACE.default()
    assert len(candidate.params) == 3 + 25 + 4
    assert len(SPACE.architecture_dimensions) == 3 + 25 + 2
    assert SPACE.architecture_id(
        SPACE.candidate({**candidate.params, "learning_rate": 0.001})
    ) == SPACE.architecture_id(candidate)


def test_it_is_described_in_yaml() -> None:
    section = SpaceSection.model_validate(
        {
            "name": "mobile_stages",
            "kernels": [3],
            "expansions": [3, 6],
            "depths": [1, 2],
            "squeeze_excite": [False],
            "activations": ["relu"],
        }
    )
    space = get_space(section.name, section.arguments())
    assert space.default().params["stage1_depth"] == 2
    assert space.default().params["stage1_expansion"] == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernels": [4]}, "3, 5, 7"),
        ({"depths": [0.5]}, "depths"),
        ({"depths": [0]}, "depths"),
        ({"squeeze_excite": [1]}, "true or false"),
        ({"activations": ["swish"]}, "hard_swish"),
        ({"families": ["lcnet"]}, "families"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        get_space("mobile_stages", options)
    assert said in str(caught.value)
