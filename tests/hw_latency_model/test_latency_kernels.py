"""The file and the module of one network are described by the same kernels, and nothing of either is left out."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

from exports import export_onnx
from exports.onnx.static_graph import static_graph
from hw_latency_model import KernelSpec, kernels_from_module, kernels_from_onnx
from hw_latency_model.kernels.onnx_graph import graph_from_static
from search_spaces import get_space
from search_spaces._common.errors import UserError
from search_spaces.networks.backbones import FAMILIES

SHAPES = [("fpn", 0.5, 0.0), ("lraspp", 1.0, 0.5)]


def signature(kernel: KernelSpec) -> tuple[object, ...]:
    value = kernel.to_dict()
    del value["name"]
    return tuple(tuple(item) if isinstance(item, list) else item for item in value.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_module_and_file_agree_for_every_family_pruned_or_not(family: str, tmp_path: Path) -> None:
    space = get_space("encoder_decoder", {"families": [family]})
    for decoder, width, prune_ratio in SHAPES:
        params = {**space.default().params, "family": family, "decoder": decoder, "width": width}
        candidate = space.candidate({**params, "resolution": "96x128", "prune_ratio": prune_ratio})
        net = space.build_pruned(candidate, 14)
        path = tmp_path / f"{decoder}.onnx"
        file = export_onnx(net, (96, 128), path)
        from_module, from_file = kernels_from_module(net, (96, 128)), kernels_from_onnx(path)
        assert Counter(map(signature, from_module)) == Counter(map(signature, from_file))
        assert sum(kernel.macs for kernel in from_module) == file.macs
        assert not [kernel.kind for kernel in from_module if kernel.kind.startswith("op:")]


def test_every_node_of_a_file_is_in_exactly_one_kernel(tmp_path: Path) -> None:
    space = get_space("encoder_decoder")
    candidate = space.candidate({**space.default().params, "family": "mobilenetv3_small", "decoder": "lraspp"})
    path = tmp_path / "net.onnx"
    export_onnx(space.build_pruned(candidate, 5), (96, 128), path)
    names = [name for kernel in kernels_from_onnx(path) for entry in kernel.nodes for name in entry.split("+")]
    assert sorted(names) == sorted(op.name for op in graph_from_static(static_graph(path)).ops)
    constants = sum(node.op_type == "Constant" for node in onnx.load(path).graph.node)
    assert len(names) == len(onnx.load(path).graph.node) - constants


class Block(nn.Module):
    """Convolution, normalisation, residual addition and activation, then what the decoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        value = functional.relu(self.stem(image))
        value = functional.relu(self.norm(self.conv(value)) + value)
        return functional.interpolate(self.drop(value), scale_factor=2, mode="bilinear", align_corners=False)


def test_a_residual_block_is_one_kernel_with_its_folded_bias() -> None:
    stem, block, resize, to_planes = kernels_from_module(Block(), (32, 32))
    assert (stem.kind, stem.fused, stem.stride) == ("narrow_conv", ("relu",), (2, 2))
    assert (block.kind, block.fused) == ("conv", ("add", "relu"))
    assert block.macs == 16 * 16 * 16 * 16 * 9
    assert block.weight_bytes == 4 * (16 * 16 * 9 + 16)
    assert block.input_bytes == 2 * 4 * 16 * 16 * 16
    assert block.output_bytes == 4 * 16 * 16 * 16
    assert (resize.kind, resize.output_bytes) == ("resize_linear", 4 * 16 * 32 * 32)
    assert (to_planes.kind, to_planes.input_bytes, to_planes.nodes) == ("relayout", 4 * 16 * 32 * 32, ())


def test_reading_a_module_leaves_it_and_the_random_state_alone() -> None:
    net = Block().train()
    net.norm.eval()
    state, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    random_state = torch.get_rng_state()
    kernels_from_module(net, (32, 32))
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in net.parameters())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_an_operation_without_a_kind_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(image, dim=-1)

    (kernel,) = kernels_from_module(Odd(), (8, 8))
    assert kernel.kind == "op:cumsum"
    assert kernel.input_bytes == kernel.output_bytes == 4 * 3 * 64


def _model(shape: list[int | str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("CumSum", ["x", "axis"], ["y"]), helper.make_node("Identity", ["y"], ["z"])],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, shape)],
        [helper.make_tensor("axis", TensorProto.INT64, [], [3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_an_unknown_node_of_a_file_is_a_kernel_and_a_view_belongs_to_it() -> None:
    (kernel,) = kernels_from_onnx(_model([1, 3, 8, 8]))
    assert kernel.kind == "op:CumSum"
    assert len(kernel.nodes) == 2


def test_open_shapes_are_refused_with_the_next_step() -> None:
    with pytest.raises(UserError, match=r"static shapes.*'x'"):
        kernels_from_onnx(_model([1, 3, "height", 8]))


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no ONNX file .*absent\.onnx"):
        kernels_from_onnx(tmp_path / "absent.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a network")
    with pytest.raises(UserError, match=r"damaged\.onnx is not a readable ONNX model"):
        kernels_from_onnx(damaged)


def test_tensorrt_fuses_what_onnx_runtime_leaves_apart() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.SiLU())
    kinds = [kernel.kind for kernel in kernels_from_module(net, (16, 16))]
    assert kinds == ["narrow_conv", "transcendental", "relayout"]
    assert [kernel.fused for kernel in kernels_from_module(net, (16, 16), runtime="tensorrt")] == [("silu",)]


class Gated(nn.Module):
    """Two blocked convolutions with a squeeze-and-excitation gate between them, which works on planes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(16, 32, 3, padding=1)
        self.gate = nn.Conv2d(32, 32, 1)
        self.last = nn.Conv2d(32, 16, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        value = self.first(image)
        return self.last(value * self.gate(value.mean((2, 3), keepdim=True)).sigmoid())


def test_changes_of_layout_are_kernels_where_the_runtime_makes_them(tmp_path: Path) -> None:
    """The counts are those that ONNX Runtime's own optimised graph has."""
    import onnxruntime

    path = tmp_path / "gated.onnx"
    image = torch.zeros(1, 16, 8, 8)
    torch.onnx.export(Gated().eval(), (image,), path, opset_version=13, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    nodes = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    if not nodes["ReorderInput"]:
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    found = Counter(kernel.name for kernel in kernels_from_onnx(path) if kernel.kind == "relayout")
    assert found == {"to blocks": nodes["ReorderInput"], "to planes": nodes["ReorderOutput"]}
    assert not [kernel for kernel in kernels_from_onnx(path, runtime="tensorrt") if kernel.kind == "relayout"]


def test_a_kernel_survives_json() -> None:
    for kernel in kernels_from_module(Block(), (32, 32)):
        assert signature(KernelSpec.from_dict(kernel.to_dict())) == signature(kernel)


def test_a_file_without_an_operation_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.onnx holds no operation that takes time"):
        kernels_from_onnx(tmp_path / "empty.onnx")
