"""Depth, output stride, continuous width and upsampling: offered only where a study asks, and built as promised."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from search_spaces import UserError, get_space
from search_spaces.candidate import Candidate
from search_spaces.networks.backbones import FAMILIES
from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.spaces.config import SpaceSection

CLASSES = 3
DEEP = [name for name, spec in FAMILIES.items() if spec.has_depth and name != "resnet101"]
DILATED = [name for name, spec in FAMILIES.items() if spec.dilates and name != "resnet101"]


def build(family: str, **changes: object) -> SegmentationNet:
    options: dict[str, object] = {
        "families": [family],
        "widths": [0.25, 0.5, 1.0],
        "decoders": ["fpn", "lraspp", "deeplabv3"],
    }
    for key in ("depth", "output_stride", "upsampling"):
        if key in changes:
            options[f"{key}s"] = [changes[key]]
    space = get_space("encoder_decoder", options)
    params = {**space.default().params, "width": 0.25, "decoder": "fpn", **changes}
    return space.build(space.candidate(params), CLASSES)


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("family", DEEP)
def test_depth_adds_and_takes_away_blocks_of_the_same_width(family: str) -> None:
    counts = {depth: len(convolutions(build(family, depth=depth).encoder)) for depth in (0.5, 1.0, 2.0)}
    assert counts[0.5] <= counts[1.0] < counts[2.0]
    plain, same = build(family), build(family, depth=1.0)
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), same.state_dict().values(), strict=True))


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("family", DILATED)
def test_dilation_keeps_the_last_stages_at_the_output_stride(family: str, stride: int) -> None:
    plain = build(family, decoder="deeplabv3")
    held = build(family, decoder="deeplabv3", output_stride=stride)
    images = torch.rand(2, 3, 64, 96)
    (coarse,), (fine,) = plain.encoder(images), held.encoder(images)
    assert coarse.shape[-2:] == (2, 3)
    assert fine.shape[-2:] == (64 // stride, 96 // stride)
    assert held(images).shape == (2, CLASSES, 64 // stride, 96 // stride)
    shapes = [{name: value.shape for name, value in net.encoder.state_dict().items()} for net in (plain, held)]
    assert shapes[0] == shapes[1], "pretrained weights fit both"
    if stride == 8:  # at 16 RepVGG's last stage is one block, which reads undilated features
        assert any(max(module.dilation) > 1 for module in convolutions(held.encoder))


def test_lraspp_with_an_output_stride_is_the_papers() -> None:
    plain, held = (
        build("mobilenetv3_large", decoder="lraspp"),
        build("mobilenetv3_large", decoder="lraspp", output_stride=16),
    )
    assert len(convolutions(held.encoder)) > len(convolutions(plain.encoder))
    images = torch.rand(2, 3, 64, 64)
    assert held(images).shape == plain(images).shape == (2, CLASSES, 8, 8)


@pytest.mark.parametrize("kind", ["transposed", "bicubic"])
def test_other_upsamplings_start_close_to_bilinear(kind: str) -> None:
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        bilinear, other = build("lcnet", upsampling="bilinear").eval(), build("lcnet", upsampling=kind).eval()
        other.load_state_dict(bilinear.state_dict(), strict=False)
        expected, found = bilinear(images), other(images)
    assert expected.shape == found.shape
    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert torch.corrcoef(torch.stack([expected[inside].flatten(), found[inside].flatten()]))[0, 1] > 0.9
    assert any(isinstance(module, nn.ConvTranspose2d) for module in other.modules()) == (kind == "transposed")


def test_the_original_projects_baseline_is_a_point() -> None:
    space = get_space(
        "encoder_decoder",
        {"families": ["resnet18", "resnet101"], "decoders": ["deeplabv3"], "widths": [1.0], "output_strides": [8]},
    )
    for family, millions in (("resnet18", 16.0), ("resnet101", 58.6)):
        params = {**space.default().params, "family": family, "prune_ratio": 0.0}
        with torch.device("meta"):
            net = space.build(space.candidate(params), 21)
        # torchvision's deeplabv3_resnet101 has 58.6 M without its auxiliary head
        assert sum(value.numel() for value in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)
        assert net.output_stride == 8


def test_a_study_that_asks_for_nothing_new_gets_what_it_always_got() -> None:
    space = get_space("encoder_decoder", {})
    names = [dimension.name for dimension in space.dimensions]
    assert names == ["family", "decoder", "width", "resolution", "prune_ratio", "learning_rate", "weight_decay"]
    choices = {dimension.name: getattr(dimension, "choices", None) for dimension in space.dimensions}
    assert choices["decoder"] == ("lraspp", "fpn")
    assert "resnet101" not in choices["family"]
    assert len(choices["family"]) >= 15


def test_a_candidate_with_further_dimensions_is_built_by_any_space_of_that_name() -> None:
    wide = get_space("encoder_decoder", {"depths": [0.5], "output_strides": [16], "upsamplings": ["transposed"]})
    candidate = wide.default()
    plain = get_space("encoder_decoder", {})
    shapes = [
        {name: value.shape for name, value in space.build_pruned(candidate, CLASSES).state_dict().items()}
        for space in (wide, plain)
    ]
    assert shapes[0] == shapes[1]
    assert plain.architecture_id(candidate) == wide.architecture_id(candidate)
    bare = {
        name: value for name, value in candidate.params.items() if name not in ("depth", "output_stride", "upsampling")
    }
    assert plain.architecture_id(Candidate("encoder_decoder", 1, bare)) != plain.architecture_id(candidate)


@pytest.mark.parametrize("step", [None, 0.05])
def test_a_range_of_widths_is_suggested_stored_and_built(step: float | None) -> None:
    section = SpaceSection.model_validate(
        {"families": ["lcnet"], "widths": {"low": 0.3, "high": 0.9, **({"step": step} if step else {})}}
    )
    space = get_space(section.name, section.arguments())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    widths = set()
    for _ in range(12):
        trial = study.ask()
        candidate = space.suggest(trial)
        assert space.candidate(trial.params) == candidate
        assert space.candidate(candidate.params) == candidate
        widths.add(candidate.params["width"])
    assert all(0.3 <= width <= 0.9 for width in widths)
    if step:
        assert all(round((width - 0.3) / step, 6) % 1 == 0 for width in widths)
        assert all(len(str(width)) <= 4 for width in widths), "no rounding noise in an id"
    assert space.default().params["width"] == pytest.approx(0.9)


@pytest.mark.parametrize("family", [name for name, spec in FAMILIES.items() if spec.by_default])
def test_any_width_gives_multiples_of_eight(family: str) -> None:
    space = get_space("encoder_decoder", {"families": [family], "widths": {"low": 0.15, "high": 1.8}})
    rng = np.random.default_rng(len(family))
    for _ in range(3):
        with torch.device("meta"):
            net = space.build(space.sample(rng), CLASSES)
        # LCNet squeezes its gates, maps of one pixel, to a quarter of the channels whatever that is.
        counts = {
            m.out_channels for name, m in net.encoder.named_modules() if isinstance(m, nn.Conv2d) and ".se." not in name
        }
        assert {count % 8 for count in counts} == {0}


def test_families_that_lack_something_are_left_out_or_named() -> None:
    held = get_space("encoder_decoder", {"output_strides": [16, 32]}).dimensions[0].choices
    assert "ese_vovnet19b_dw" not in held
    assert "mobilenetv2" in held
    deep = get_space("encoder_decoder", {"depths": [0.5, 1.0]}).dimensions[0].choices
    assert set(deep) == {name for name in DEEP if FAMILIES[name].by_default}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"families": ["ese_vovnet19b_dw"], "output_strides": [16]}, "ese_vovnet19b_dw"),
        ({"families": ["lcnet"], "depths": [0.5]}, "depths"),
        ({"output_strides": [4]}, "8, 16, 32"),
        ({"output_strides": []}, "output_strides"),
        ({"depths": [9.0]}, "depths"),
        ({"upsamplings": ["cubic"]}, "bicubic"),
        ({"widths": {"low": 0.5, "high": 0.25}}, "low, high"),
        ({"widths": {"low": 0.5, "high": 1.0, "step": 0.3}}, "step"),
        ({"widths": {"from": 0.5, "to": 1.0}}, "low, high"),
        ({"decoders": ["deeplab"]}, "deeplabv3"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        get_space("encoder_decoder", options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_space_tells_which_resizes_its_networks_hold() -> None:
    def modes(**options: object) -> set[str]:
        return set(get_space("encoder_decoder", options).resize_modes())

    assert modes() == {"linear"}
    assert modes(upsamplings=["bilinear", "bicubic"]) == {"linear", "cubic"}
    assert modes(upsamplings=["transposed"]) == set()
