"""What goes wrong in a training for a reason that its user can put right, in words that say how."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from search_spaces._common.errors import UserError
from trial_runner.config.study import TrainingSection
from trial_runner.training.distributed import World
from trial_runner.training.trial_spec import TrialFailed

_OUT_OF_MEMORY = "out of memory; lower training.batch_size or space.resolutions_px, or give each trial more memory"


@contextmanager
def failures_told(config: TrainingSection, world: World) -> Iterator[None]:
    """Around a training's work.

    Raises:
        TrialFailed: the memory did not suffice. Not where several processes train together: the others wait for this one, which
            has to die.
        UserError: torch could not compile the network, which no other trial would get round.
    """
    try:
        yield
    except MemoryError as error:
        if world.size > 1:
            raise
        raise TrialFailed(_OUT_OF_MEMORY) from error
    except RuntimeError as error:
        if config.compile and _came_from_compiling(error):
            raise UserError(
                f"training.compile is true, but torch could not compile the network: {str(error).splitlines()[0]}. Install a C++ "
                "compiler (g++) and Python's headers, or set training.compile to false."
            ) from error
        if world.size == 1 and is_out_of_memory(error):
            raise TrialFailed(_OUT_OF_MEMORY) from error
        raise


def _came_from_compiling(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # takes a second, and is loaded wherever something was compiled

    return isinstance(error, TorchDynamoException)


def is_out_of_memory(error: RuntimeError) -> bool:
    """True for torch's out-of-memory errors; its CPU allocator raises a plain RuntimeError, which only its text identifies."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
