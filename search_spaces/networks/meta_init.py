"""Networks of which only the shapes are wanted: built on the meta device, and nothing fills tensors that have no storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

_FILLING: frozenset[Callable[..., Any]] = frozenset(
    {
        *(init.uniform_, init.normal_, init.constant_, init.kaiming_uniform_),
        *(Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_, Tensor.__setitem__),
    }
)


@contextmanager
def meta_init() -> Iterator[None]:
    """Modules made within have shapes but no weights; most of the time of building them on the meta device is saved.

    Torch's own meta kernels of random initialisers take a millisecond each, and a network has hundreds.
    """
    with torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Whatever fills a tensor in place leaves it as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _FILLING:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
