"""Kernels computed from a network traced once are those of the network built and pruned, for every family."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from exports import export_onnx
from hw_latency_model import KernelSpec, kernels_from_module, kernels_from_onnx
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.kernels.graph_shapes import Unscalable, resized, with_fewer_channels
from hw_latency_model.kernels.op_graph import Op, OpGraph
from search_spaces import Candidate, get_space, reparameterize
from search_spaces.networks.backbones import FAMILIES
from search_spaces.networks.decoder_specs import DECODERS
from search_spaces.spaces.encoder_decoder import EncoderDecoderSpace
from search_spaces.spaces.references import REFERENCES

CLASSES = 5
RESOLUTIONS = [[64, 64], [96, 128], [160, 224], [320, 32]]
RATIOS = [0.0, 0.25, 0.4, 0.7]


class NeverBuilds(EncoderDecoderSpace):
    """Only what is traced on the meta device can come out of this space."""

    def build_pruned(self, candidate: Candidate, num_classes: int) -> object:  # type: ignore[override]
        raise AssertionError("a network was built and pruned")


def signature(kernel: KernelSpec) -> dict[str, object]:
    value = kernel.to_dict()
    del value["name"]
    return value


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_rescaled_kernels_are_those_of_the_built_network(family: str) -> None:
    options = {"families": [family], "resolutions_px": RESOLUTIONS, "prune_ratios": RATIOS}
    space = get_space("encoder_decoder", options)
    quick = CandidateKernels(NeverBuilds(**options), CLASSES)
    rng = np.random.default_rng(len(family))
    for _ in range(3):
        candidate = space.sample(rng)
        built = kernels_from_module(space.build_pruned(candidate, CLASSES), space.input_hw(candidate))
        assert [signature(kernel) for kernel in quick(candidate)] == [signature(kernel) for kernel in built]


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_so_it_is_for_every_decoder_stride_depth_and_upsampling(decoder: str) -> None:
    options = {
        "families": ["mobilenetv2", "resnet18d", "repvgg_a0"],
        "decoders": [decoder],
        "widths": [0.25, 0.6],
        "resolutions_px": RESOLUTIONS,
        "prune_ratios": RATIOS,
        "output_strides": [8, 16, 32],
        "upsamplings": ["bilinear", "transposed", "bicubic"],
    }
    space = get_space("encoder_decoder", options)
    quick = CandidateKernels(NeverBuilds(**options), CLASSES)
    rng = np.random.default_rng(len(decoder))
    for _ in range(3):
        candidate = space.sample(rng)
        built = kernels_from_module(space.build_pruned(candidate, CLASSES), space.input_hw(candidate))
        assert [signature(kernel) for kernel in quick(candidate)] == [signature(kernel) for kernel in built]


@pytest.mark.parametrize("name", ["mobile_stages", "references"])
def test_so_it_is_for_the_other_spaces(name: str) -> None:
    options = {"resolutions_px": RESOLUTIONS, "prune_ratios": RATIOS, "widths": [0.25, 0.5]}
    space = get_space(name, options)
    quick = CandidateKernels(space, CLASSES)
    rng = np.random.default_rng(3)
    for _ in range(4):
        candidate = space.sample(rng)
        built = kernels_from_module(reparameterize(space.build_pruned(candidate, CLASSES)), space.input_hw(candidate))
        assert [signature(kernel) for kernel in quick(candidate)] == [signature(kernel) for kernel in built]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("encoder_decoder", {"decoder": "deeplabv3plus_dw", "output_stride": 16, "upsampling": "transposed"}),
        ("encoder_decoder", {"decoder": "unet", "output_stride": 32, "upsampling": "bicubic"}),
        ("mobile_stages", {"stage3_se": True, "activation": "hard_swish"}),
        *(("references", {"family": family}) for family in REFERENCES),
    ],
)
def test_module_and_file_of_new_networks_agree(name: str, params: dict[str, object], tmp_path: Path) -> None:
    options: dict[str, object] = {"resolutions_px": [[96, 128]], "widths": [0.25], "prune_ratios": [0.0, 0.5]}
    if name == "encoder_decoder":
        options |= {f"{key}s": [params[key]] for key in ("decoder", "output_stride", "upsampling")}
    space = get_space(name, options)
    net = space.build_pruned(space.candidate({**space.default().params, "prune_ratio": 0.5, **params}), CLASSES)
    file = export_onnx(net, (96, 128), tmp_path / "net.onnx")
    from_module, from_file = kernels_from_module(net, (96, 128)), kernels_from_onnx(tmp_path / "net.onnx")
    assert Counter(str(signature(kernel)) for kernel in from_module) == Counter(
        str(signature(kernel)) for kernel in from_file
    )
    assert sum(kernel.macs for kernel in from_module) == file.macs
    assert not [kernel.kind for kernel in from_module if kernel.kind.startswith("op:")]


def test_a_space_that_promises_nothing_is_built() -> None:
    class Silent(EncoderDecoderSpace):
        def operations_id(self, candidate: Candidate) -> str | None:
            return None

    space = Silent(families=["lcnet"], decoders=["lraspp"], widths=[0.25], prune_ratios=[0.5])
    candidate = space.default()
    expected = kernels_from_module(space.build_pruned(candidate, CLASSES), space.input_hw(candidate))
    assert [signature(k) for k in CandidateKernels(space, CLASSES)(candidate)] == [signature(k) for k in expected]


def test_tracing_leaves_the_random_state_alone() -> None:
    import torch

    state = torch.get_rng_state()
    space = get_space("encoder_decoder", {"families": ["repvgg_a0"], "widths": [0.25]})
    CandidateKernels(space, CLASSES)(space.default())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_followed_is_refused() -> None:
    shapes = {"x": (1, 16, 8, 8), "y": (1, 32, 8, 8), "z": (1, 64, 8, 4), "w": (1, 8, 8, 4)}
    grouped = Op("conv", "grouped", ("x",), ("y",), ((32, 4, 3, 3),), (3, 3), (1, 1), 4)
    view = Op("free", "view", ("y",), ("z",))
    last = Op("conv", "last", ("z",), ("w",), ((8, 64, 1, 1),), (1, 1), (1, 1), 1)
    with pytest.raises(Unscalable, match="grouped"):
        with_fewer_channels(OpGraph((grouped, view, last), shapes, ("w",)), lambda op, count: count // 2)
    plain = Op("conv", "plain", ("x",), ("y",), ((32, 16, 3, 3),), (3, 3), (1, 1), 1)
    with pytest.raises(Unscalable, match="view"):
        with_fewer_channels(OpGraph((plain, view, last), shapes, ("w",)), lambda op, count: count // 2)
    with pytest.raises(Unscalable, match="no whole number"):
        resized(OpGraph((plain,), {"x": (1, 16, 3, 3), "y": (1, 32, 3, 3)}, ("y",)), (96, 96), (112, 112))
