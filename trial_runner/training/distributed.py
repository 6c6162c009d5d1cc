"""Several processes that train one network together: which part is whose, and what they tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """One process among ``size`` that share each step: all of them build the same network and see the same random numbers,
    each takes every ``size``-th image from its ``rank`` on. With one process every method does nothing."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> World:
        """The process group that this process has joined, as Ray Train's workers have."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether it is this process that writes."""
        return self.rank == 0

    def together(self, net: nn.Module, device: torch.device) -> nn.Module:
        """A module that computes what ``net`` does and averages its gradients over the processes."""
        if self.size == 1:
            return net
        return DistributedDataParallel(net, device_ids=[torch.cuda.current_device()] if device.type == "cuda" else None)

    def mean(self, value: Tensor) -> Tensor:
        if self.size > 1:
            value = value.clone()
            distributed.all_reduce(value)
            value /= self.size
        return value

    def agree(self, values: Sequence[int]) -> list[int]:
        """What the first process says, in all of them."""
        if self.size == 1:
            return list(values)
        said = torch.tensor(values)
        distributed.broadcast(said, 0)
        return [int(value) for value in said]

    def add_up(self, counts: NDArray[Any], device: torch.device) -> NDArray[Any]:
        if self.size == 1:
            return counts
        total = torch.from_numpy(counts).to(device)
        distributed.all_reduce(total)
        summed: NDArray[Any] = total.cpu().numpy()
        return summed

    def follow_first(self, net: nn.Module) -> None:
        """Give every process the buffers (running means) of the first one; weights are equal anyway."""
        if self.size > 1:
            for buffer in net.buffers():
                distributed.broadcast(buffer, 0)
