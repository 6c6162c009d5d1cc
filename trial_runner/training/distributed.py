"""Data-parallel training in several processes (DDP): ranks and collectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_FAILED = "paretoseg/failed"
_OTHERS_FAIL_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True)
class DistributedContext:
    """Rank and size of a process group. All processes build the same network and use the same random numbers; each takes every
    ``size``-th image of a batch from its ``rank`` on. With one process every method is the identity."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> DistributedContext:
        """Return the context of the process group that this process has joined (Ray Train's workers have)."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """True for rank 0, the process that writes files."""
        return self.rank == 0

    def all_failed(self) -> bool:
        """Return True if every process of the group calls this within seconds, because a failure concerns them all; call it once.

        Where False, the others wait in a collective for this process, and only its end frees them.
        """
        if self.size == 1:
            return True
        store = distributed.distributed_c10d._get_default_store()
        try:
            store.set(f"{_FAILED}/{self.rank}", "1")
            store.wait([f"{_FAILED}/{rank}" for rank in range(self.size)], _OTHERS_FAIL_WITHIN)
        except RuntimeError:  # the time is over, or the process that serves the store has ended
            return False
        return True

    def wrap_ddp(self, net: nn.Module, device: torch.device) -> nn.Module:
        """Wrap ``net`` in DistributedDataParallel, which averages its gradients over the processes."""
        if self.size == 1:
            return net
        return DistributedDataParallel(net, device_ids=[torch.cuda.current_device()] if device.type == "cuda" else None)

    def mean(self, value: Tensor) -> Tensor:
        if self.size > 1:
            value = value.clone()
            distributed.all_reduce(value)
            value /= self.size
        return value

    def broadcast(self, values: Sequence[int]) -> list[int]:
        """Broadcast the values of rank 0 to all processes."""
        if self.size == 1:
            return list(values)
        sent = torch.tensor(values)
        distributed.broadcast(sent, 0)
        return [int(value) for value in sent]

    def all_reduce(self, counts: NDArray[Any], device: torch.device) -> NDArray[Any]:
        if self.size == 1:
            return counts
        total = torch.from_numpy(counts).to(device)
        distributed.all_reduce(total)
        summed: NDArray[Any] = total.cpu().numpy()
        return summed

    def broadcast_buffers(self, net: nn.Module) -> None:
        """Broadcast the buffers (running statistics) of rank 0; weights are equal in all processes."""
        if self.size > 1:
            for buffer in net.buffers():
                distributed.broadcast(buffer, 0)
