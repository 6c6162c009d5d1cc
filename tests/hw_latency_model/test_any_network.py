"""Networks that no space of ours makes: torchvision's classifiers and segmenters, read from the module and from the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from hw_latency_model import KernelSpec, kernels_from_module, kernels_from_onnx

NAMES = [
    "densenet121",
    "efficientnet_v2_s",
    "googlenet",
    "lraspp_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_large",
    "fcn_resnet50",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "swin_t",
    "vit_b_16",
]


def network(name: str) -> torch.nn.Module:
    from search_spaces.networks.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from torchvision.models import get_model

    segmenter = name.startswith(("fcn", "deeplab", "lraspp"))
    net: torch.nn.Module = get_model(name, weights=None, **({"weights_backbone": None} if segmenter else {}))
    return net.eval()


@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_every_operation_of_a_torchvision_network_has_a_kind(name: str, runtime: str) -> None:
    with torch.device("meta"):
        net = network(name)
    kernels = kernels_from_module(net, (224, 224), runtime=runtime)
    assert not [kernel.kind for kernel in kernels if kernel.kind.startswith("op:")]
    assert sum(kernel.macs for kernel in kernels) > 1e7


def convolutions(kernels: list[KernelSpec]) -> Counter[tuple[object, ...]]:
    return Counter((k.kind, k.macs, k.fused, k.in_hw, k.out_hw, k.weight_bytes) for k in kernels if k.macs)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mnasnet0_5", "squeezenet1_1"])
@pytest.mark.filterwarnings("ignore")
def test_module_and_file_have_the_same_convolutions(name: str, tmp_path: Path) -> None:
    net = network(name)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, 64, 64),), path, opset_version=13, dynamo=False)
    from_file = kernels_from_onnx(path)
    assert not [kernel.kind for kernel in from_file if kernel.kind.startswith("op:")]
    assert convolutions(from_file) == convolutions(kernels_from_module(net, (64, 64)))
