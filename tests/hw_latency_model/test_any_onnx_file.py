"""Kernels of any ONNX file or torch module: work by operator, one kernel for a sequence and its one-row image."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hw_latency_model import LatencyModel, kernels_from_module, kernels_from_onnx
from hw_latency_model.bundled.load import load_bundled
from hw_latency_model.kernels.extract import network_from_onnx
from search_spaces._common.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "exports"))
from onnx_models import CONV, CONV_MACS, STRUCTURES, WORK, W, model, node, one, tensor, weight


@pytest.fixture(scope="module")
def boxed() -> LatencyModel:
    return load_bundled("jetson-nano", "fp32")


@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("name", [*WORK, *STRUCTURES])
def test_kernels_hold_all_the_work(name: str, runtime: str, boxed: LatencyModel) -> None:
    made, macs = (WORK | STRUCTURES)[name][:2]
    if name == "loop that does not run":
        with pytest.raises(UserError, match="holds no operation that takes time"):
            kernels_from_onnx(made, runtime=runtime)
        return
    kernels = kernels_from_onnx(made, runtime=runtime)
    assert sum(kernel.macs for kernel in kernels) == macs
    estimate = boxed.predict(kernels)
    assert 0 < estimate.low_ms <= estimate.latency_ms <= estimate.high_ms < float("inf")


def test_a_convolution_of_a_sequence_is_that_of_a_one_row_image() -> None:
    sequence = kernels_from_onnx(one("Conv", [1, 64, 1000], weight("w", 64, 64, 9), pads=[4, 4]), runtime="tensorrt")
    image = one("Conv", [1, 64, 1, 1000], weight("w", 64, 64, 1, 9), pads=[0, 4, 0, 4])
    assert [kernel.to_dict() for kernel in sequence] == [
        kernel.to_dict() for kernel in kernels_from_onnx(image, runtime="tensorrt")
    ]
    assert sequence[0].macs == 64 * 1000 * 64 * 9


def test_views_alone_take_no_time() -> None:
    with pytest.raises(UserError, match="holds no operation that takes time"):
        kernels_from_onnx(model([node("Flatten", ["x"], ["y"])], [tensor("x", [1, 3, 8, 8])], ["y"]))


def test_a_custom_operator_is_named_and_counted_as_unknown(boxed: LatencyModel) -> None:
    made = STRUCTURES["a custom operator"][0]
    network = network_from_onnx(made)
    estimate = boxed.predict(network.kernels("tensorrt"))
    assert estimate.unknown_kinds == ("op:acme.MyNorm",)
    assert estimate.coverage < 1
    assert any("acme.MyNorm" in note for note in network.notes)


def test_given_sizes_reach_the_kernels() -> None:
    made = model([CONV], [tensor("x", ["n", 3, "h", "w"])], ["a"], [W])
    assert kernels_from_onnx(made, inputs={"x": (1, 3, 16, 24)})[0].macs == CONV_MACS


class Mixed(nn.Module):
    """Convolutions of a sequence and of a video, a product with its constant on the left, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Conv1d(3, 8, 5, stride=2)
        self.back = nn.ConvTranspose1d(8, 4, 4, stride=2)
        self.video = nn.Conv3d(1, 4, (3, 3, 5), padding=(1, 1, 2))
        self.mixing = nn.Parameter(torch.ones(7, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows = self.back(self.rows(image.flatten(2)))
        volume = self.video(image.unsqueeze(1))
        mixed = self.mixing @ image[0, 0]
        return rows.mean() + volume.mean() + mixed.mean() + self.head(image[0, 0].t()).mean()


def test_work_of_torch_modules_equals_torchs_own_count() -> None:
    net = Mixed().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 16, 16))
    kernels = kernels_from_module(net, (16, 16))
    assert sum(kernel.macs for kernel in kernels) == counter.get_total_flops() // 2


@pytest.mark.parametrize("dynamo", [False, True])
def test_dynamic_exports_of_torch_are_read(dynamo: bool, tmp_path: Path) -> None:
    net, path = (
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)).eval(),
        tmp_path / "net.onnx",
    )
    image = torch.zeros(2, 3, 8, 8)
    if dynamo:
        batch = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(net, (image,), path, dynamo=True, external_data=True, dynamic_shapes=batch, verbose=False)
        assert onnx.load(path, load_external_data=False).graph.initializer
    else:
        axes = {"x": {0: "n", 2: "h", 3: "w"}}
        torch.onnx.export(net, (image,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
        with pytest.raises(UserError, match="--input x=1x3x512x512"):
            kernels_from_onnx(path)
    kernels = kernels_from_onnx(path, inputs=None if dynamo else {"x": (1, 3, 8, 8)})
    assert sum(kernel.macs for kernel in kernels) == 64 * 8 * 27
