"""Torch configuration of a training: threads, memory format, determinism, compilation, and translation of its errors."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from search_spaces._common.errors import UserError
from trial_runner.config.study import TrainingSection
from trial_runner.training.distributed import DistributedContext
from trial_runner.training.trial_spec import TrialFailed

_FEW_CHANNELS = 8
_ONE_VALUE = "Expected more than 1 value per channel when training"  # of torch's batch normalisation
_OUT_OF_MEMORY = "out of memory; lower training.batch_size or space.resolutions_px, or give each trial more memory"
_CUDA_CONTEXT_BYTES = 600_000_000  # of kernels and cuBLAS, which torch does not count
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def configure_torch(config: TrainingSection, threads: int) -> None:
    """Configure torch for the whole process. On a CPU trainings are always reproducible bit for bit; ``deterministic`` requires the
    same of a GPU, where torch warns of operations without a deterministic algorithm."""
    torch.set_num_threads(threads)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not config.deterministic
    _keep_freed_memory()


def begin_gpu_accounting() -> None:
    """Forget the GPU memory of an earlier trial in this process."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def gpu_peak() -> float:
    """Return the largest share of its GPU's memory that this process has reserved, with its CUDA context; 0 without a GPU."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return 0.0
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return min((torch.cuda.max_memory_reserved() + _CUDA_CONTEXT_BYTES) / total, 1.0)


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory. Otherwise it returns activation-sized blocks to the system and requests them again, zeroed, a
    dozen times per step: a fifth of the training time on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    except (OSError, AttributeError):
        return  # another C library


def memory_format(net: nn.Module, config: TrainingSection) -> torch.memory_format:
    """Return the memory format of ``net`` and its images.

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
    """Return ``net``, compiled if the configuration requests it."""
    return torch.compile(net, dynamic=False) if config.compile else net  # type: ignore[return-value]


@contextmanager
def translate_errors(config: TrainingSection, context: DistributedContext) -> Iterator[None]:
    """Translate torch's errors during a training.

    Raises:
        TrialFailed: a batch of one image left batch normalisation a single value per channel; or the memory did not suffice, but
            not where several processes train together: the others wait for this one, which has to die.
        UserError: torch could not compile the network, which no other trial would get round.
    """
    try:
        yield
    except MemoryError as error:
        if context.size > 1:
            raise
        raise TrialFailed(_OUT_OF_MEMORY, out_of_memory=True) from error
    except ValueError as error:
        if _ONE_VALUE not in str(error):
            raise
        raise TrialFailed(
            "batch normalisation needs two values per channel, but a batch of one image was reduced to a map of 1x1; use more "
            "training images, a larger training.batch_size or larger space.resolutions_px"
        ) from error
    except RuntimeError as error:
        if config.compile and _is_compile_error(error):
            raise UserError(
                f"training.compile is true, but torch could not compile the network: {str(error).splitlines()[0]}. Install a C++ "
                "compiler (g++) and Python's headers, or set training.compile to false."
            ) from error
        if context.size == 1 and is_out_of_memory(error):
            raise TrialFailed(_OUT_OF_MEMORY, out_of_memory=True) from error
        raise


def _is_compile_error(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # takes a second, and is loaded wherever something was compiled

    return isinstance(error, TorchDynamoException)


def is_out_of_memory(error: RuntimeError) -> bool:
    """True for torch's out-of-memory errors; its CPU allocator raises a plain RuntimeError, which only its text identifies."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
