"""Training a network that torch compiles, where there is a C++ compiler; and what is said where there is none."""

from __future__ import annotations

import copy
import os
import shutil

import pytest
import torch
from torch import nn

from search_spaces._common.errors import UserError
from trial_runner.config.study import TrainingSection
from trial_runner.training.distributed import DistributedContext
from trial_runner.training.runtime import compiled, translate_errors

CONFIG = TrainingSection(compile=True)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    torch._dynamo.reset()


@pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="no C++ compiler (package g++: make test-deps)"
)
def test_a_compiled_step_gives_the_networks_own_parameters_the_same_gradients(net):
    plain, images = copy.deepcopy(net), torch.rand(4, 3, 16, 16)
    step = compiled(net, CONFIG)
    with translate_errors(CONFIG, DistributedContext()):
        assert torch.allclose(step(images), plain(images), atol=1e-5)
        step(images).square().sum().backward()
    plain(images).square().sum().backward()
    assert list(net.state_dict()) == list(plain.state_dict())
    for mine, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and torch.allclose(mine.grad, theirs.grad, rtol=1e-3, atol=1e-4)
    assert torch.allclose(net[1].running_mean, plain[1].running_mean, atol=1e-5)


def test_without_a_compiler_the_launch_ends_with_the_next_step(net):
    from torch._inductor import config

    broken = config.patch({"cpp.cxx": (None, "no-such-compiler")})
    refused = pytest.raises(UserError, match=r"no-such-compiler.*set training\.compile to false")
    with broken, refused, translate_errors(CONFIG, DistributedContext()):
        compiled(net, CONFIG)(torch.rand(4, 3, 16, 16))
