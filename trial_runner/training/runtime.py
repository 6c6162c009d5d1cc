"""How torch runs a training: threads, layout of activations, repeatable algorithms, compiled or not."""

from __future__ import annotations

import ctypes
import os

import torch
from torch import nn

from trial_runner.config.study import TrainingSection

_FEW_CHANNELS = 8
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def settle_torch(config: TrainingSection, threads: int) -> None:
    """Set what concerns the whole process. On a CPU a training repeats bit for bit in any case; ``deterministic`` asks the same of
    a GPU, where torch warns of what it has no such algorithm for."""
    torch.set_num_threads(threads)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not config.deterministic
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next request. It gives blocks as large as activations back to the system otherwise, which
    has to hand them out again, zeroed, a dozen times a step: a fifth of the time of a training on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    except (OSError, AttributeError):
        return  # another C library


def memory_format(net: nn.Module, config: TrainingSection) -> torch.memory_format:
    """Layout that ``net`` and its images are kept in.

    ``auto`` is channels last, but for networks with a strided 1x1 convolution on few channels, as in RepVGG's stem: its backward
    pass in channels last corrupts memory on a CPU (torch 2.13 to 2.15).
    """
    if config.memory_format == "auto":
        return torch.contiguous_format if _breaks_channels_last(net) else torch.channels_last
    return torch.channels_last if config.memory_format == "channels_last" else torch.contiguous_format


def _breaks_channels_last(net: nn.Module) -> bool:
    return any(
        module.kernel_size == (1, 1) and max(module.stride) > 1 and module.in_channels < _FEW_CHANNELS
        for module in net.modules()
        if isinstance(module, nn.Conv2d)
    )


def compiled(net: nn.Module, config: TrainingSection) -> nn.Module:
    """A module that computes what ``net`` does with its parameters, compiled where the configuration asks for it."""
    return torch.compile(net, dynamic=False) if config.compile else net  # type: ignore[return-value]
