"""Imports stay light, and work beside a torchvision whose compiled library does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What a CPU-only torch does with a CUDA-linked torchvision: the compiled library is refused.
BROKEN = """
import torch
def refuse(path):
    raise OSError("libcudart.so: cannot open shared object file")
torch.ops.load_library = refuse
"""
SHIM = "from search_spaces.networks.torchvision_compat import ensure_torchvision; ensure_torchvision(); ensure_torchvision()\n"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("module", ["search_spaces", "search_spaces._common.errors", "search_spaces.registry"])
def test_importing_the_package_imports_nothing_heavy(module):
    heavy = ("torch", "timm", "torchvision", "torch_pruning", "optuna", "numpy")
    done = python(f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_every_exported_name_is_there():
    done = python(
        "import search_spaces as s; print(all(hasattr(s, name) for name in s.__all__), hasattr(s, 'nothing'))"
    )
    assert done.stdout.strip() == "True False", done.stderr


def test_torchvision_without_its_library_stops_timm_unless_mended():
    assert "torchvision::nms does not exist" in python(BROKEN + "import timm").stderr
    done = python(
        BROKEN + "from search_spaces import get_space\nspace = get_space('encoder_decoder', {})\n"
        "net = space.build(space.default(), 3)\nprint(tuple(net(torch.zeros(2, 3, 64, 64)).shape))"
    )
    assert done.stdout.strip() == "(2, 3, 16, 16)", done.stderr


def test_a_whole_torchvision_is_left_as_it_is():
    code = "import torch, torchvision\nboxes = torch.tensor([[0., 0., 2., 2.], [0., 0., 2., 2.]])\n"
    code += "print(torchvision.ops.nms(boxes, torch.tensor([.1, .9]), .5).tolist())"
    done = python(SHIM + code)
    assert done.stdout == "[1]\n", done.stderr
