"""Parity ladder: FP16 as a converted graph, its gates, and the nodes that FP16 does not suit."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from test_bundle import HW, inputs, made, normalised, pixels
from torch import nn

from exports import ParityError, export_onnx, get_profile, write_bundle
from exports.bundle.fp16 import Half, half_step
from exports.bundle.inputs import ImagePart
from exports.onnx.half import offending_nodes
from exports.onnx.parity import run_torch, upsampled_classes
from exports.onnx.runtime import OnnxSession


class Scaled(nn.Module):
    """A network whose logits pass through values beyond FP16's range."""

    def __init__(self, net: nn.Module, largest: float) -> None:
        super().__init__()
        self.net, self.largest = net, largest

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.clamp(self.net(image) * self.largest, -1e9, 1e9) / self.largest


def with_net(net: nn.Module):
    given = inputs(labels=None)
    return replace(given, network=replace(given.network, net=net))


def test_the_fp16_graph_computes_in_fp16_and_takes_float32(tmp_path: Path):
    given = inputs()
    half = half_step(export_onnx(given.network.net, HW, tmp_path / "model.onnx").path, given)
    assert isinstance(half, Half) and half.parity.passed and half.kept == ()
    assert 1e-6 < half.parity.max_rel_error < 1e-2, "FP16 rounds"
    kinds = {tensor.data_type for tensor in half.model.graph.initializer if tensor.name.endswith("__half")}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert half.model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert len(half.model.SerializeToString()) < 0.6 * (tmp_path / "model.onnx").stat().st_size


def test_nodes_beyond_the_range_of_fp16_are_found_and_kept_in_float32(tmp_path: Path):
    given = with_net(Scaled(made()[1].eval(), 1e6))
    path = export_onnx(given.network.net, HW, tmp_path / "model.onnx").path
    half = half_step(path, given)
    assert isinstance(half, Half)
    model = onnx.load(str(path))
    named = {node.name: node.op_type for node in model.graph.node}
    assert half.parity.passed
    assert {named[name] for name in half.kept} <= {"Mul", "Clip", "Div"} and 1 <= len(half.kept) <= 4
    (tmp_path / "half.onnx").write_bytes(half.model.SerializeToString())
    assert np.isfinite(OnnxSession(tmp_path / "half.onnx").run(given.images)).all()


def test_bisection_finds_single_nodes_and_pairs():
    names = [f"n{index}" for index in range(9)]
    asked: list[Collection[str]] = []

    def passes(chosen: Collection[str]) -> bool:
        asked.append(chosen)
        return "n2" not in chosen and "n7" not in chosen

    assert offending_nodes(names, passes) == ["n2", "n7"]
    assert len(asked) < 2 * len(names)
    assert offending_nodes(names, lambda chosen: not {"n3", "n4"} <= set(chosen)) == ["n3", "n4"]
    assert offending_nodes(names, lambda chosen: True) == []


def test_the_manifest_has_every_step_and_tells_what_was_not_measured(tmp_path: Path):
    folder = write_bundle(tmp_path / "nano", inputs()).dir
    steps = json.loads((folder / "manifest.json").read_text())["ladder"]
    assert [step["step"] for step in steps] == ["onnx fp32", "onnx fp16", "engine"]
    assert steps[0]["passed"] and steps[0]["argmax_agreement"] >= 0.9999 and abs(steps[0]["miou_delta"]) <= 0.0005
    assert steps[1]["passed"] and steps[1]["images"] == 2 and steps[1]["kept_in_fp32"] == []
    assert steps[2] == {"step": "engine", "passed": None, "reason": "not measured: no device"}
    text = (folder / "README.md").read_text()
    assert "| onnx fp16 against torch | same classes on" in text and "not measured: no device" in text
    assert OnnxSession(folder / "model-fp16.onnx").run(inputs().images).shape[1] == 4


def test_a_device_without_fp16_gets_no_fp16_step(tmp_path: Path):
    bundle = write_bundle(tmp_path / "cpu", inputs(profile=get_profile("local-cpu"), precision="fp32"))
    assert [step["step"] for step in bundle.manifest["ladder"]] == ["onnx fp32", "engine"]
    assert not (bundle.dir / "model-fp16.onnx").exists()


def test_a_network_that_fp16_destroys_is_not_written(tmp_path: Path):
    class Enormous(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 4, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.head(image * 1e9)

    with pytest.raises(ParityError, match="in FP16 the network is not the one that was trained: FP16 gives NaN"):
        write_bundle(tmp_path / "bundle", with_net(Enormous()))
    assert not list(tmp_path.iterdir())
    given = with_net(Enormous())
    in_fp32 = replace(given, network=replace(given.network, precision="fp32"))
    step = write_bundle(tmp_path / "bundle", in_fp32).manifest["ladder"][1]
    assert step["passed"] is False and "FP16 gives NaN" in step["reason"]
    assert not (tmp_path / "bundle" / "model-fp16.onnx").exists()


class Coarse(nn.Module):
    """A network that FP16 rounds in one place to steps of 1/32: about one pixel in a hundred changes its class."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.clamp(self.head(image) + 32, 0, 1e4) - 32


def test_the_limit_of_miou_holds_and_more_images_decide_where_few_exceed_it(tmp_path: Path):
    given = with_net(Coarse())
    path = export_onnx(given.network.net, HW, tmp_path / "model.onnx").path
    images = normalised(pixels(24, seed=5))
    logits = run_torch(given.network.net, images)
    own = [upsampled_classes(item[None], HW) for item in logits]
    few = replace(given, images=images[:2], labels=own[:2])  # every changed pixel is an error
    half = half_step(path, few)
    assert isinstance(half, Half) and half.parity.passed and half.parity.images == 2
    named = {node.name: node.op_type for node in onnx.load(str(path)).graph.node}
    assert half.kept and "Conv" not in {named[name] for name in half.kept}, "the coarse nodes stay in float32"

    def more(count: int, labels: list) -> list[ImagePart]:
        return [ImagePart(images[at : at + 8], labels[at : at + 8]) for at in range(0, min(count, 24), 8)]

    strict = half_step(path, replace(few, more_images=lambda count: more(count, own)))
    assert isinstance(strict, Half) and strict.kept == half.kept
    rng = np.random.default_rng(2)
    other = [rng.integers(0, 4, HW, dtype=np.uint8) for _ in own]  # a changed pixel is as often right as before
    half = half_step(path, replace(few, more_images=lambda count: more(count, other)))
    assert isinstance(half, Half) and half.kept == () and half.parity.images == 24
    assert half.parity.miou_torch is not None and half.parity.miou_onnx is not None
    assert abs(half.parity.miou_torch - half.parity.miou_onnx) <= 0.002


def test_an_operator_that_torch_does_not_know_leaves_the_step_out(tmp_path: Path):
    class Sine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 4, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.sin(self.head(image))

    bundle = write_bundle(tmp_path / "bundle", with_net(Sine()))
    step = bundle.manifest["ladder"][1]
    assert step["passed"] is None and "operator Sin is not known" in step["reason"]
    assert not bundle.manifest["torch_on_board"]["runs"] and not (bundle.dir / "graph.json").exists()
