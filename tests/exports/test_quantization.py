"""INT8 and FP16: what ONNX Runtime runs is 8-bit and says what the network that simulates it says."""

from __future__ import annotations

import copy
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from exports import (
    BundleInputs,
    ExportError,
    OnnxSession,
    TrainedNetwork,
    export_onnx,
    get_profile,
    read_bundle,
    read_network,
    write_bundle,
)
from exports.onnx.export import onnx_model
from exports.onnx.parity import check_quantized
from exports.quantization.net import GraphNet
from exports.quantization.qdq import export_quantized, qdq_model
from exports.quantization.quantize import half_precision, pack_quantized, quantize, unpack_quantized
from search_spaces import get_space
from search_spaces._common.palette import spread_palette

HW = (64, 96)
SPACE = get_space("encoder_decoder", {"resolutions_px": [list(HW)]})


def images(count: int, seed: int = 0) -> torch.Tensor:
    coarse = torch.randn(count, 3, 8, 12, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=HW, mode="bicubic")


def targets(batch: torch.Tensor, stride: int) -> torch.Tensor:
    """Five classes by brightness: something that a few steps can learn."""
    bright = nn.functional.avg_pool2d(batch.mean(1, keepdim=True), stride)[:, 0]
    return torch.bucketize(bright, torch.tensor([-0.6, -0.2, 0.2, 0.6]))


@cache
def learnt(family: str, decoder: str, width: float) -> nn.Module:
    """A pruned network after some steps of training: in an untrained one a rounded-off bit grows from layer to layer."""
    chosen = {"family": family, "decoder": decoder, "width": width, "resolution": "64x96", "prune_ratio": 0.25}
    net = SPACE.build_pruned(SPACE.candidate({**SPACE.default().params, **chosen}), 5)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for seed in range(40):
        batch = images(4, seed)
        loss = nn.functional.cross_entropy(net.train()(batch), targets(batch, net.output_stride))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def network(family: str, decoder: str = "fpn", width: float = 0.5) -> nn.Module:
    return copy.deepcopy(learnt(family, decoder, width))


NETWORKS = [("mobilenetv2", "fpn"), ("mobilenetv3_small", "lraspp"), ("resnet10t", "lraspp"), ("repvgg_a0", "fpn")]


@pytest.mark.parametrize(("family", "decoder"), NETWORKS)
def test_int8_runs_as_integers_and_agrees_with_its_simulation(family: str, decoder: str, tmp_path: Path):
    net = network(family, decoder)
    batch = images(3, seed=100)
    graph = GraphNet(onnx_model(net, HW))
    with torch.no_grad():
        torch.testing.assert_close(graph(batch), net(batch), rtol=1e-3, atol=1e-3)
    quantized = quantize(net, HW, [images(8, seed=200)])
    written = export_quantized(quantized, tmp_path / "int8.onnx")
    assert written.macs == export_onnx(net, HW, tmp_path / "fp32.onnx").macs
    assert written.opset == 13 and written.output_shape == OnnxSession(tmp_path / "fp32.onnx").output_shape
    ran = operators_that_run(written.path)
    floats = Counter(node.op_type for node in onnx.load(tmp_path / "fp32.onnx").graph.node)
    assert ran["QLinearConv"] == floats["Conv"] and not ran["Conv"] and not ran["FusedConv"]
    report = check_quantized(quantized, written.path, batch.numpy())
    assert report.passed, report
    with torch.no_grad():
        error = (quantized(batch) - net(batch)).abs().max() / np.ptp(net(batch).numpy())
    assert 0 < error < 0.3


def operators_that_run(path: Path) -> Counter[str]:
    """Output of ONNX Runtime for a file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_the_file_is_a_quarter_of_the_size(tmp_path: Path):
    net = network("resnet10t", width=1.0)
    small = export_quantized(quantize(net, HW, [images(2)]), tmp_path / "int8.onnx").size_bytes
    assert small < 0.3 * export_onnx(net, HW, tmp_path / "fp32.onnx").size_bytes


class Channels(nn.Module):
    """Two channels of very different size, one that is dead with a large bias, and a clamp."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0.001, 0], [0, 0, 0]])[..., None, None])
            self.first.bias.copy_(torch.tensor([0.0, 0.0, 5.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).clamp(0, 6))


def test_each_channel_has_its_own_scale_and_a_dead_one_does_no_harm(tmp_path: Path):
    net = Channels().eval()
    quantized = quantize(net, (8, 8), [torch.rand(4, 3, 8, 8)])
    model = qdq_model(quantized)
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weight = next(value for name, value in held.items() if name.endswith("weight") and value.shape == (3, 3, 1, 1))
    assert weight[0, 0, 0, 0] == 127 and weight[1, 1, 0, 0] == 127
    assert not {node.op_type for node in model.graph.node} & {"Clip", "Relu"}
    written = export_quantized(quantized, tmp_path / "int8.onnx")
    batch = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        expected = quantized(batch).numpy()
    np.testing.assert_allclose(OnnxSession(written.path).run(batch.numpy()), expected, atol=0.1)
    with torch.no_grad():
        np.testing.assert_allclose(expected, net(batch).numpy(), atol=0.1)


def test_training_on_reaches_the_weights_and_moves_the_ranges():
    quantized = quantize(network("mobilenetv2"), HW, [images(4)]).train()
    optimizer = torch.optim.SGD(quantized.parameters(), lr=0.01)
    before = quantized.high.clone()
    labels = (images(4)[:, 0, ::4, ::4] > 0).long()
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(quantized(3 * images(4)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for name, p in quantized.named_parameters() if "encoder" in name
    )
    assert bool((quantized.high[0] > before[0]).item())
    parts = {name.partition(".")[0] for name, _ in quantized.named_parameters()}
    assert parts == {"encoder", "decoder"}


def test_calibration_takes_the_extremes_or_their_mean():
    net = network("mobilenetv2")
    batches = [torch.cat([images(1), 10 * images(1)])]
    widest, mean = (quantize(net, HW, batches, calibration=how) for how in ("minmax", "average"))
    assert widest.high[0] == pytest.approx(10 * images(1).max().item(), rel=1e-6)
    assert mean.high[0] == pytest.approx(5.5 * images(1).max().item(), rel=1e-6)
    with pytest.raises(ValueError, match="at least one image"):
        quantize(net, HW, [])


def test_a_packed_network_comes_back_bit_for_bit(tmp_path: Path):
    quantized = quantize(network("lcnet", "lraspp"), HW, [images(2)], weight_bits=7)
    torch.save(pack_quantized(quantized), tmp_path / "packed.pt")
    back = unpack_quantized(torch.load(tmp_path / "packed.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(back(images(2)), quantized(images(2)))
    assert qdq_model(back).SerializeToString(deterministic=True) == qdq_model(quantized).SerializeToString(
        deterministic=True
    )
    weights = [t for t in qdq_model(back).graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert max(int(np.abs(onnx.numpy_helper.to_array(t).astype(int)).max()) for t in weights) == 63


def test_half_precision_rounds_and_overflows_as_the_device_does():
    net = network("mobilenetv2")
    half = half_precision(net, HW)
    with torch.no_grad():
        difference = (half(images(2)) - net(images(2))).abs().max() / net(images(2)).abs().max()
        assert 1e-6 < difference < 0.02
        net.decoder.classifier.weight *= 1e6
        assert not torch.isfinite(half_precision(net, HW)(images(2))).all()


class Unusual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(self.layer(x), 1)


def test_an_operator_that_is_not_known_is_named():
    with pytest.raises(ExportError, match=r"CumSum.*device\.precision to fp32"):
        quantize(Unusual(), (8, 8), [torch.rand(1, 3, 8, 8)])


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="64, 96"):
        half_precision(network("mobilenetv2"), HW)(torch.zeros(1, 3, 32, 32))


def test_a_bundle_in_int8_holds_the_quantized_network_and_says_so(tmp_path: Path):
    candidate = SPACE.candidate(
        {**SPACE.default().params, "family": "mobilenetv2", "decoder": "fpn", "width": 0.5, "prune_ratio": 0.25}
    )
    net = network("mobilenetv2")
    quantized = quantize(net, HW, [images(8)])
    network_facts = {
        "net": net,
        "candidate": candidate,
        "input_hw": HW,
        "class_names": ("a", "b", "c", "d", "e"),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
        "ignore_index": 255,
        "precision": "int8",
    }
    given = {
        "palette": spread_palette(5),
        "images": images(2, seed=5).numpy(),
        "labels": None,
        "profile": get_profile("local-cpu"),
        "facts": {},
        "config_yaml": "study: demo\n",
    }
    inputs = BundleInputs(TrainedNetwork(**network_facts, quantized=quantized), **given)
    write_bundle(tmp_path / "bundle", inputs)
    bundle = read_bundle(tmp_path / "bundle")
    facts = bundle.manifest["precision"]
    assert facts["name"] == "int8" and facts["integer_convolutions"] == facts["convolutions"] > 10
    assert bundle.manifest["parity"]["passed"] and bundle.manifest["lint"]["findings"] == []
    assert "INT8" in (bundle.dir / "README.md").read_text()
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(bundle.onnx_path).graph.node}
    trained = read_network(bundle.checkpoint_path)
    assert trained.precision == "int8"
    with torch.no_grad():
        assert torch.equal(trained.delivered()(images(1)), quantized(images(1)))
        assert torch.equal(trained.net(images(1)), net(images(1)))
    with pytest.raises(ValueError, match="needs a quantized network"):
        BundleInputs(TrainedNetwork(**network_facts), **given)
