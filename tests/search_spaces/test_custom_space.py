"""A search space of the user's own: dimensions in Optuna's terms and a builder; everything else is added."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hw_latency_model import kernels_from_module
from search_spaces import NetworkSpace, UserError, get_space
from search_spaces._common.references import add_import_folder
from search_spaces.dimensions import Integer, dimension_of
from search_spaces.spaces.custom import CustomSpace

SOURCE = """
import optuna
from torch import nn
from search_spaces import NetworkSpace

class TinySpace(NetworkSpace):
    dimensions = {"channels": optuna.distributions.IntDistribution(16, 64, step=16)}
    resolutions_px = [(64, 96)]

    def __init__(self, kernel: int = 3) -> None:
        self.kernel = kernel

    def build(self, params, num_classes):
        channels, padding = params["channels"], self.kernel // 2
        return nn.Sequential(
            nn.Conv2d(3, channels, self.kernel, stride=4, padding=padding, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, self.kernel, padding=padding), nn.ReLU(), nn.Conv2d(channels, num_classes, 1),
        )

def five(**options):
    return TinySpace(5, **options)

def wrong():
    return 3

ready = TinySpace(1)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "custom_space_user.py").write_text(SOURCE)
    add_import_folder(tmp_path)
    yield
    sys.modules.pop("custom_space_user", None)


TINY = "custom_space_user:TinySpace"


def test_the_user_defines_channels_and_gets_image_size_pruning_and_training():
    space = get_space(TINY, {"prune_ratios": [0.0, 0.5], "precisions": ["fp32", "int8"]})
    names = [axis.name for axis in (*space.dimensions, *space.added_dimensions)]
    assert names == ["channels", "resolution", "prune_ratio", "learning_rate", "weight_decay", "precision"]
    assert space.architecture_dimensions == ("channels", "resolution", "prune_ratio")
    default = space.default()
    assert (default.space, default.space_version) == ("TinySpace", 1)
    assert space.input_hw(default) == (64, 96) and space.prune_ratio(default) == 0.0
    assert set(space.hyperparameters(default)) == {"learning_rate", "weight_decay"}


def test_suggested_sampled_and_stored_candidates_agree():
    space = get_space(TINY)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask()
    first = space.suggest(trial)
    assert space.suggest(trial).id == first.id and first.params["channels"] in (16, 32, 48, 64)
    drawn = {space.sample(np.random.default_rng(seed)).params["channels"] for seed in range(40)}
    assert drawn == {16, 32, 48, 64}


def test_the_network_is_seeded_scored_at_its_stride_and_pruned():
    space = get_space(TINY, {"prune_ratios": [0.5]})
    candidate = space.candidate({**space.default().params, "channels": 64})
    net, again, other = (space.build(candidate, 5, seed=seed) for seed in (1, 1, 2))
    same = [torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True)]
    assert all(same) and not torch.equal(next(net.parameters()), next(other.parameters()))
    assert net.output_stride == 4 and net(torch.zeros(2, 3, 64, 96)).shape == (2, 5, 16, 24)
    pruned = space.build_pruned(candidate, 5)
    assert pruned(torch.zeros(1, 3, 64, 96)).shape == (1, 5, 16, 24)
    assert [layer.out_channels for layer in pruned.modules() if isinstance(layer, torch.nn.Conv2d)] == [32, 32, 5]
    assert kernels_from_module(pruned.eval(), (64, 96))


def test_options_reach_the_constructor_and_a_function_may_make_the_space():
    wide = get_space(TINY, {"kernel": 7})
    assert wide.build(wide.default(), 3).encoder[0].kernel_size == (7, 7)
    assert get_space("custom_space_user:five").build(wide.default(), 3).encoder[0].kernel_size == (5, 5)
    assert get_space("custom_space_user:ready").build(wide.default(), 3).encoder[0].kernel_size == (1, 1)
    with pytest.raises(UserError, match=r"unknown option of search space .*'kernal': did you mean 'kernel'"):
        get_space(TINY, {"kernal": 7})
    with pytest.raises(UserError, match="which is, or gives, a int: it must be a subclass of"):
        get_space("custom_space_user:wrong")


def test_dimensions_of_optuna_become_ours():
    assert dimension_of("a", IntDistribution(1, 8, log=True)) == Integer("a", 1, 8, log=True)
    assert dimension_of("a", CategoricalDistribution(["x", "y"])).suggest(optuna.trial.FixedTrial({"a": "y"})) == "y"
    steps = dimension_of("a", FloatDistribution(0.25, 1.0, step=0.25))
    steps.check(0.75)
    with pytest.raises(ValueError, match=r"in steps of 0.25"):
        steps.check(0.8)
    logged = dimension_of("a", FloatDistribution(1e-4, 1e-2, log=True))
    assert logged.sample(np.random.default_rng(0)) < 1e-2
    with pytest.raises(UserError, match=r"dimension 'a' must be an optuna.distributions object or a list"):
        dimension_of("a", 3)
    with pytest.raises(UserError, match="dimension 'a' must be"):
        dimension_of("a", [None])


@pytest.mark.parametrize("value", [0, 9, 3, 4.0, True, "4"])
def test_an_integer_axis_takes_its_own_steps_alone(value: object):
    axis = Integer("a", 2, 8, step=2)
    axis.check(4)
    with pytest.raises(ValueError, match="whole number from 2 to 8 in steps of 2"):
        axis.check(value)


class _Odd(NetworkSpace):
    dimensions = {"kind": ["none", "classes", "fails", "dict"]}  # noqa: RUF012
    resolutions_px = ((32, 64),)

    def build(self, params: Any, num_classes: int) -> Any:
        if params["kind"] == "none":
            return None
        if params["kind"] == "dict":
            return _Dict(num_classes)
        return torch.nn.Conv2d(3 if params["kind"] == "classes" else 4, num_classes + 1, 1)


class _Dict(torch.nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = torch.nn.ConvTranspose2d(3, num_classes, 1)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.last(images), "aux": images}


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("none", "_Odd.build must return a torch.nn.Module, but returned a NoneType"),
        (
            "classes",
            r"gives \(1, 4, 32, 64\) for an image \(1, 3, 32, 64\): it must give logits \(1, 3, 32 / s, 64 / s\)",
        ),
        ("fails", r"fails on an image \(1, 3, 32, 64\): RuntimeError"),
    ],
)
def test_a_network_of_another_form_is_named(kind: str, sentence: str):
    space = CustomSpace(_Odd())
    with pytest.raises(UserError, match=sentence):
        space.build(space.candidate({**space.default().params, "kind": kind}), 3)


def test_a_dict_as_torchvision_gives_it_is_taken():
    space = CustomSpace(_Odd())
    net = space.build(space.candidate({**space.default().params, "kind": "dict"}), 3)
    assert net(torch.zeros(1, 3, 32, 64)).shape == (1, 3, 32, 64) and len(net.classifiers) == 1


def test_a_resolution_of_its_own_and_defaults():
    class Sized(_Odd):
        name = "sized"
        version = 3
        dimensions = {"resolution": ["32x64", "64x64"], "kind": ["dict", "none"]}  # noqa: RUF012
        defaults = {"kind": "none", "resolution": "32x64"}  # noqa: RUF012

    space = CustomSpace(Sized())
    default = space.default()
    assert (default.space, default.space_version, default.params["kind"]) == ("sized", 3, "none")
    assert space.input_hw(default) == (32, 64)
    assert [axis.name for axis in space.dimensions].count("resolution") == 1


def test_a_space_without_dimensions_is_refused():
    class Empty(_Odd):
        dimensions = {}  # noqa: RUF012

    with pytest.raises(UserError, match="needs an attribute dimensions"):
        CustomSpace(Empty())
