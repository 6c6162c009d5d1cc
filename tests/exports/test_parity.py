"""Parity: passes what is the same network, fails what is not, and says why."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from exports import check_parity, export_onnx
from exports.onnx.parity import upsampled_classes


class Pixelwise(nn.Module):
    """Logits at half resolution from a 2x2 convolution."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


@pytest.fixture
def case(tmp_path):
    torch.manual_seed(0)
    net = Pixelwise()
    path = export_onnx(net, (16, 24), tmp_path / "model.onnx").path
    images = np.random.default_rng(0).normal(size=(3, 3, 16, 24)).astype(np.float32)
    labels = [
        np.random.default_rng(i).integers(0, 4, size=size, dtype=np.uint8)
        for i, size in enumerate([(30, 40), (16, 24), (50, 20)])
    ]
    labels[0][:5] = 255
    return net, path, images, labels


def reference_miou(net, images, labels):
    """Straight from the definition: one pixel count per class over all images."""
    hits, union = np.zeros(4), np.zeros(4)
    for image, label in zip(images, labels, strict=True):
        with torch.no_grad():
            ids = upsampled_classes(net(torch.from_numpy(image[None])).numpy(), label.shape)
        for c in range(4):
            truth, said = label == c, (ids == c) & (label != 255)
            hits[c] += (truth & said).sum()
            union[c] += (truth | said).sum()
    return (hits[union > 0] / union[union > 0]).mean()


def test_the_same_network_passes(case):
    net, path, images, labels = case
    net.train()
    report = check_parity(net, path, images, labels)
    assert net.training
    assert report.passed, report.reason
    assert report.images == 3
    assert report.max_rel_error < 1e-5
    assert report.argmax_agreement == 1.0
    assert report.miou_torch == pytest.approx(reference_miou(net, images, labels))
    assert report.miou_onnx == pytest.approx(report.miou_torch)
    assert check_parity(net, path, images).miou_torch is None


def test_another_network_fails(case):
    net, path, images, labels = case
    with torch.no_grad():
        net.conv.weight[0] += 0.05
    report = check_parity(net, path, images, labels)
    assert not report.passed
    assert "of their range" in report.reason
    tolerant = check_parity(net, path, images, labels, tolerance=1.0)
    assert not tolerant.passed
    assert "same class" in tolerant.reason


def test_a_lost_class_fails_though_logits_and_pixels_agree(tmp_path):
    """One pixel in 2,304 is the only one of its class, and the file gives it to another: 0.04 % of the pixels, half of the mIoU."""
    net = nn.Conv2d(3, 2, 1, bias=True)
    images = np.zeros((1, 3, 48, 48), np.float32)
    images[0, 0] = 1.0
    images[0, :2, 20, 30] = 0.5, 0.5002
    labels = [(images[0, 1] > 0).astype(np.uint8)]
    with torch.no_grad():
        net.weight.copy_(torch.eye(3)[:2, :, None, None])
        net.bias.copy_(torch.tensor([0.0, -0.0004]))
        path = export_onnx(net, (48, 48), tmp_path / "lost.onnx").path
        net.bias.zero_()
    report = check_parity(net, path, images, labels, min_agreement=0.999)
    assert report.max_rel_error < 1e-3 and report.argmax_agreement > 0.999
    assert report.miou_torch == 1.0 and report.miou_onnx == pytest.approx(0.5, abs=1e-3)
    assert not report.passed and report.reason == "mIoU is 1.0000 in torch and 0.4998 in the ONNX file"
    assert check_parity(net, path, images, min_agreement=0.999).passed, "without labels there is no mIoU to compare"


def test_nan_fails_on_either_side(case, tmp_path):
    net, path, images, labels = case
    good = Pixelwise()
    good.load_state_dict(net.state_dict())
    with torch.no_grad():
        net.conv.bias[1] = float("nan")
    report = check_parity(net, path, images, labels)
    assert not report.passed
    assert "torch gives NaN" in report.reason
    broken = export_onnx(net, (16, 24), tmp_path / "nan.onnx").path
    report = check_parity(good, broken, images)
    assert not report.passed
    assert "the ONNX file gives NaN" in report.reason
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["max_abs_error"] is None


def test_ties_are_not_a_difference(case, tmp_path):
    """A collapsed network gives equal logits everywhere: which class wins is rounding."""
    net, _, images, _ = case
    with torch.no_grad():
        net.conv.weight[1] = net.conv.weight[0]
        net.conv.bias[1] = net.conv.bias[0] + 1e-7
    path = export_onnx(net, (16, 24), tmp_path / "tied.onnx").path
    with torch.no_grad():
        net.conv.bias[1] -= 2e-7
    assert check_parity(net, path, images).passed
    with torch.no_grad():
        net.conv.weight.zero_()
        net.conv.bias.zero_()
    path = export_onnx(net, (16, 24), tmp_path / "zero.onnx").path
    assert check_parity(net, path, images).passed


def test_wrong_use_is_a_value_error(case, tmp_path):
    net, path, images, labels = case
    with pytest.raises(ValueError, match="at least one"):
        check_parity(net, path, images[:0])
    with pytest.raises(ValueError, match="3 images and 1 labels"):
        check_parity(net, path, images, labels[:1])
    with pytest.raises(ValueError, match="label holds class id 9"):
        check_parity(net, path, images[:1], [np.full((4, 4), 9, np.uint8)])
    with pytest.raises(ValueError, match="another network"):
        check_parity(Pixelwise(7), path, images)


def test_upsampling_is_half_pixel_bilinear():
    logits = np.zeros((1, 2, 1, 2), np.float32)
    logits[0, 1] = [-1.0, 1.0]
    # centres at .25 and .75 of the width: the classes meet in the middle, not at a pixel of the border
    assert upsampled_classes(logits, (1, 8)).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
