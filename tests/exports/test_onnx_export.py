"""ONNX files: right, repeatable, quiet, and without side effects on the network."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from exports import ExportError, OnnxSession, export_onnx


class TinyNet(nn.Module):
    """A convolution, batch norm, squeeze and excite with hard-swish, two scales: what the real networks are made of."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.deep = nn.Sequential(
            nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(), nn.Dropout(0.5)
        )
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
        self.low, self.high = nn.Conv2d(8, classes, 1), nn.Conv2d(16, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = self.stem(x)
        deep = self.deep(low)
        up = nn.functional.interpolate(
            self.high(deep * self.gate(deep)), size=low.shape[-2:], mode="bilinear", align_corners=False
        )
        return self.low(low) + up


def trained(net: nn.Module) -> nn.Module:
    """Give the batch norms statistics other than 0 and 1."""
    net.train()
    with torch.no_grad():
        for _ in range(5):
            net(torch.randn(4, 3, 32, 48) * 2 + 1)
    return net


def test_export_agrees_with_torch_and_declares_its_shapes(tmp_path):
    torch.manual_seed(0)
    net = trained(TinyNet())
    written = export_onnx(net, (32, 48), tmp_path / "deep" / "model.onnx")
    assert written.input_shape == (1, 3, 32, 48)
    assert written.output_shape == (1, 5, 16, 24)
    assert (written.opset, written.input_name, written.output_name) == (13, "image", "logits")
    assert written.size_bytes == written.path.stat().st_size
    by_hand = 16 * 24 * 8 * 27 + 8 * 12 * 16 * 72 + 16 * 16 + 16 * 24 * 5 * 8 + 8 * 12 * 5 * 16
    assert written.macs == by_hand
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 48)).astype(np.float32)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(images)).numpy()
    session = OnnxSession(written.path)
    assert session.input_hw == (32, 48)
    np.testing.assert_allclose(session.run(images), expected, atol=1e-5)
    operators = {node.op_type for node in onnx.load(written.path).graph.node}
    assert "BatchNormalization" not in operators
    assert not operators & {"Shape", "Identity", "Dropout", "HardSwish"}
    assert [path.name for path in written.path.parent.iterdir()] == ["model.onnx"]


def test_the_network_and_the_random_state_stay_as_they_were(tmp_path):
    net = TinyNet().train().to(memory_format=torch.channels_last)
    net.deep.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    state = torch.random.get_rng_state()
    export_onnx(net, (32, 32), tmp_path / "model.onnx")
    assert torch.equal(state, torch.random.get_rng_state())
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.low.weight.requires_grad
    assert torch.is_grad_enabled()


def test_same_weights_give_the_same_bytes_in_another_process(tmp_path, repo_root):
    program = (
        "import sys, torch; sys.path.insert(0, 'tests/exports'); from pathlib import Path\n"
        "from test_onnx_export import TinyNet; from exports import export_onnx\n"
        "torch.manual_seed(3); net = TinyNet()\n"
        "export_onnx(TinyNet(), (64, 64), Path(sys.argv[1]).with_suffix('.other'))\n"
        "export_onnx(net, (32, 32), Path(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "there.onnx")], cwd=repo_root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""
    torch.manual_seed(3)
    export_onnx(TinyNet(), (32, 32), tmp_path / "here.onnx")
    assert (tmp_path / "here.onnx").read_bytes() == (tmp_path / "there.onnx").read_bytes()
    assert str(repo_root).encode() not in (tmp_path / "here.onnx").read_bytes()


def test_an_operator_without_onnx_form_is_named(tmp_path):
    class Cumulative(nn.Module):
        def forward(self, x):
            return torch.nn.functional.grid_sample(x, torch.zeros(1, 4, 4, 2), align_corners=False)

    with pytest.raises(ExportError, match=r"candidate 12ab .*opset 13: operator aten::grid_sampler") as raised:
        export_onnx(Cumulative(), (8, 8), tmp_path / "model.onnx", subject="candidate 12ab (x, y)")
    assert "search space" in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_wrong_use_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="logits"):
        export_onnx(nn.Flatten(), (8, 8), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="opset"):
        export_onnx(TinyNet(), (32, 32), tmp_path / "model.onnx", opset=7)


def test_session_errors_say_what_to_do(tmp_path):
    with pytest.raises(ExportError, match="no ONNX model at"):
        OnnxSession(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model at all")
    with pytest.raises(ExportError, match=r"cannot load .*bad\.onnx"):
        OnnxSession(tmp_path / "bad.onnx")
    written = export_onnx(TinyNet(), (32, 32), tmp_path / "model.onnx")
    session = OnnxSession(written.path)
    with pytest.raises(ValueError, match="float32"):
        session.run(np.zeros((1, 3, 32, 32)))
    with pytest.raises(ValueError, match="shape"):
        session.run(np.zeros((1, 3, 16, 32), np.float32))
    assert session.run(np.zeros((0, 3, 32, 32), np.float32)).shape == (0, 5, 16, 16)


def test_importing_the_room_loads_nothing_heavy(repo_root):
    program = (
        "import sys, exports, exports.errors; exports.get_profile('local-cpu'); "
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'timm', 'tensorrt', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repo_root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
