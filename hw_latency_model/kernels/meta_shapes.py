"""Shape inference for the most common ATen calls, without torch's meta kernels, which take up to ten milliseconds per call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Arguments = tuple[Any, ...]


def meta_result(func: Any, args: Arguments, kwargs: dict[str, Any] | None) -> Any:
    """Infer the result of ``func`` for tensors on the meta device; only its shape is meaningful."""
    quick = _QUICK.get(func.overloadpacket.__name__) if not kwargs else None
    result = quick(args) if quick is not None else None
    return func(*args, **(kwargs or {})) if result is None else result


class MetaShapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which ``meta_result`` answers calls on the meta device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, kinds: Any, args: Arguments = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return meta_result(func, args, kwargs)


def _empty(shape: Any, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _like_first(args: Arguments) -> torch.Tensor:
    return _empty(args[0].shape, args[0].dtype)


def _itself(args: Arguments) -> Any:
    return args[0]


def _like_first_of_three(args: Arguments) -> tuple[torch.Tensor, ...]:
    none = _empty(0, args[0].dtype)
    return _like_first(args), none, none


def _broadcast(args: Arguments) -> torch.Tensor | None:
    first, second = args[0], args[1]
    if not isinstance(first, torch.Tensor) or not first.dtype.is_floating_point:
        return None
    if isinstance(second, (int, float)):
        return _like_first(args)
    if not isinstance(second, torch.Tensor) or first.dtype != second.dtype:
        return None
    if first.shape == second.shape:
        return _like_first(args)
    shape = torch.broadcast_shapes(first.shape, second.shape)  # type: ignore[no-untyped-call]
    return _empty(shape, first.dtype)


def _convolved(args: Arguments) -> torch.Tensor | None:
    image, weight, _, stride, padding, dilation, transposed = args[:7]
    if transposed or image.dim() != 4:
        return None
    sides = [
        (size + 2 * pad - reach * (kernel - 1) - 1) // step + 1
        for size, pad, reach, kernel, step in zip(
            image.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    if image.shape[1] != weight.shape[1] * args[8] or min(sides) < 1:
        return None
    return _empty((image.shape[0], weight.shape[0], *sides), image.dtype)


def _resized(args: Arguments) -> torch.Tensor | None:
    image, size = args[0], args[1]
    return None if size is None else _empty((*image.shape[:2], *size), image.dtype)


def _mean(args: Arguments) -> torch.Tensor | None:
    if len(args) != 3 or not args[1]:
        return None
    image, axes, kept = args
    gone = {axis % image.dim() for axis in axes}
    shape = [1 if axis in gone else size for axis, size in enumerate(image.shape) if kept or axis not in gone]
    return _empty(shape, image.dtype)


_QUICK: dict[str, Callable[[Arguments], Any]] = {
    **dict.fromkeys(("relu", "hardtanh", "hardsigmoid", "hardswish", "sigmoid", "silu", "gelu", "tanh"), _like_first),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), _like_first_of_three),
    **dict.fromkeys(("add", "sub", "mul", "div"), _broadcast),
    **dict.fromkeys(("relu_", "hardtanh_", "hardsigmoid_", "hardswish_", "sigmoid_", "silu_", "add_", "mul_"), _itself),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d"), _resized),
    "sqrt": _like_first,
    "mean": _mean,
    "convolution": _convolved,
}
"""Shape function by the operator packet's name; None leaves the call to torch."""
