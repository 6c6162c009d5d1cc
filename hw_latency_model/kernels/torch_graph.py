"""Reader of torch modules into ``OpGraph``: a copy runs on the meta device and every ATen call is recorded."""

from __future__ import annotations

import copy
import itertools
import math
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hw_latency_model.kernels.meta_shapes import meta_result
from hw_latency_model.kernels.op_graph import VIEW, Op, OpGraph, Shape, rows_and_columns, steps

_VOCABULARY = {
    "native_batch_norm": "batchnorm",
    "_native_batch_norm_legit_no_training": "batchnorm",
    "_batch_norm_no_update": "batchnorm",
    "cudnn_batch_norm": "batchnorm",
    "native_layer_norm": "layernorm",
    "native_group_norm": "groupnorm",
    "relu": "relu",
    "hardtanh": "clip",
    "clamp": "clip",
    "clamp_min": "clip",
    "clamp_max": "clip",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_swish",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "gelu": "gelu",
    "tanh": "tanh",
    "erf": "erf",
    "exp": "exp",
    "log": "log",
    "leaky_relu": "leaky_relu",
    "_prelu_kernel": "prelu",
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "div",
    "neg": "neg",
    "abs": "abs",
    "sqrt": "sqrt",
    "pow": "pow",
    "reciprocal": "reciprocal",
    "maximum": "max",
    "minimum": "min",
    "cat": "concat",
    "sum": "reduce",
    "amax": "reduce",
    "_adaptive_avg_pool2d": "avg_pool",
    "avg_pool2d": "avg_pool",
    "max_pool2d_with_indices": "max_pool",
    "upsample_bilinear2d": "resize_linear",
    "upsample_bicubic2d": "resize_cubic",
    "upsample_nearest2d": "resize_nearest",
    "reflection_pad2d": "pad",
    "slice": "slice",
    "select": "slice",
    "split": "split",
    "split_with_sizes": "split",
    "permute": "transpose",
    "transpose": "transpose",
    "t": "transpose",
    "index": "gather",
    "expand": "expand",
    "clone": "copy",
    "_to_copy": "copy",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "roll": "gather",
    "masked_fill": "mul",
    "eq": "sub",
    "ne": "sub",
    "linalg_vector_norm": "reduce",
    "argmax": "argmax",
}
_VIEWS = frozenset(
    {"view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "alias", "detach", "flatten", "as_strided"}
)
_ZERO_PAD = "zero_pad"
"""Zero padding of height and width, before it is known whether a convolution absorbs it."""
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1}
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)
_PLAIN = (int, float, bool, str, type(None), torch.Size, torch.dtype, *_FUNCTIONS)
_CREATION = frozenset({"empty", "zeros", "ones", "full", "arange", "zeros_like", "ones_like", "full_like", "new_zeros"})


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Recorder of every ATen call as an ``Op``. Tensors not produced by a recorded operation are constants.

    Args:
        weights: name of the module of each weight, by the tensor's ``id``.
    """

    def __init__(self, weights: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights = weights
        self.running: list[str] = []
        self.ops: list[Op] = []
        self.shapes: dict[str, Shape] = {}
        self.ids: dict[int, str] = {}
        self._alive: list[torch.Tensor] = []

    def __torch_dispatch__(
        self, func: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        result = meta_result(func, args, kwargs)
        outputs = [item for item in (result if isinstance(result, (tuple, list)) else (result,)) if _is_tensor(item)]
        if outputs and name not in _CREATION:
            self._record(name, [*args, *(kwargs or {}).values()], outputs)
        return result

    def value(self, tensor: torch.Tensor) -> str:
        """Assign a new id to the tensor's content; in-place operations do so for their tensor."""
        name = f"v{len(self.shapes)}"
        self.shapes[name] = tuple(tensor.shape)
        self.ids[id(tensor)] = name
        self._alive.append(tensor)
        return name

    def _record(self, name: str, args: list[Any], outputs: list[torch.Tensor]) -> None:
        tensors = list(_tensors(args))
        inputs = tuple(self.ids[id(tensor)] for tensor in tensors if id(tensor) in self.ids)
        constants = [tuple(tensor.shape) for tensor in tensors if id(tensor) not in self.ids]
        if not inputs:
            return
        base = name.removesuffix("_")
        op, details = _describe(base, args, self.shapes[inputs[0]], outputs[0])
        if op in ("batchnorm", "max_pool", "layernorm", "groupnorm"):
            outputs = outputs[:1]
        if self.running:
            details["layer"] = self.running[-1]
        if base == "convolution":
            details["module"] = self.weights.get(id(args[1]), "")
        self.ops.append(
            Op(
                op,
                f"{base}_{len(self.ops)}",
                inputs,
                tuple(self.value(tensor) for tensor in outputs),
                tuple(shape for shape in constants if torch.Size(shape).numel() > 1),
                **details,
            )
        )


def graph_from_module(
    net: nn.Module, input_hw: tuple[int, int], *, in_channels: int = 3, owned: bool = False
) -> OpGraph:
    """Trace the operations of ``net`` for one image in evaluation mode, with static shapes.

    A copy without storage is run, so the module, its mode, its buffers and the random state do not change. If ``owned``, the
    network is already on the meta device in evaluation mode, may be modified, and is run itself.

    Raises:
        ValueError: the network does not return a tensor, or a tuple, list or dict of tensors.
    """
    clone = net if owned else _meta_copy(net)
    image = torch.empty(1, in_channels, *input_hw, device="meta")
    recorder = _Recorder({id(item): name.rpartition(".")[0] for name, item in clone.named_parameters()})
    start = recorder.value(image)
    with torch.no_grad(), recorder, _running_layers(clone, recorder.running):
        result = clone(image)
    results = tuple(recorder.ids.get(id(tensor), start) for tensor in _tensors([result]))
    if not results:
        raise ValueError(f"a network must return tensors, this one returned {type(result).__name__}")
    return OpGraph(tuple(_without_zero_pads(_needed(recorder.ops, results), results)), recorder.shapes, results)


@contextmanager
def _running_layers(net: nn.Module, running: list[str]) -> Iterator[None]:
    """Context in which ``running`` has the names of the modules that run, the innermost last."""

    def leave(*_: object) -> None:
        running.pop()

    handles = []
    for name, module in net.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
            handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _without_zero_pads(ops: list[Op], results: Sequence[str]) -> list[Op]:
    """Fold each zero padding into the convolution that alone reads it ("same" padding of TensorFlow), as exporters do."""
    readers: dict[str, list[Op]] = {}
    for op in ops:
        for value in op.inputs:
            readers.setdefault(value, []).append(op)
    folded = {
        op.outputs[0]: op.inputs[0]
        for op in ops
        if op.op == _ZERO_PAD
        and op.outputs[0] not in results
        and [reader.op for reader in readers.get(op.outputs[0], [])] == ["conv"]
    }
    return [
        replace(
            op, op="pad" if op.op == _ZERO_PAD else op.op, inputs=tuple(folded.get(item, item) for item in op.inputs)
        )
        for op in ops
        if not (op.op == _ZERO_PAD and op.outputs[0] in folded)
    ]


def _meta_copy(net: nn.Module) -> nn.Module:
    """Copy the module in evaluation mode, with parameters and buffers on the meta device."""
    memo: dict[int, Any] = {}
    for tensor in itertools.chain(net.parameters(), net.buffers()):
        memo[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return _clone(net, memo)


def _clone(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Copy a module like ``copy.deepcopy``, faster for the usual attributes of modules, as it runs for every proposal."""
    known = memo.get(id(module))
    if known is not None:
        return cast("nn.Module", known)
    clone = type(module).__new__(type(module))
    memo[id(module)] = clone
    held = vars(clone)
    for key, value in vars(module).items():
        if key == "_modules":
            held[key] = {name: None if child is None else _clone(child, memo) for name, child in value.items()}
        elif key in ("_parameters", "_buffers"):
            held[key] = {name: None if tensor is None else memo[id(tensor)] for name, tensor in value.items()}
        elif type(value) in _PLAIN:
            held[key] = value
        elif isinstance(value, dict) and not value:
            held[key] = type(value)()
        elif type(value) is tuple and all(type(item) in _PLAIN for item in value):
            held[key] = value
        else:
            held[key] = copy.deepcopy(value, memo)
    held["training"] = False
    return clone


def _needed(ops: list[Op], results: tuple[str, ...]) -> list[Op]:
    wanted = set(results)
    kept = []
    for op in reversed(ops):
        if not wanted.isdisjoint(op.outputs):
            wanted.update(op.inputs)
            kept.append(op)
    return kept[::-1]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _tensors(values: Iterable[Any]) -> Iterable[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    return (int(value[0]), int(value[-1]))


def _describe(name: str, args: list[Any], in_shape: Shape, output: torch.Tensor) -> tuple[str, dict[str, Any]]:
    """Return the operation's name in the vocabulary and its shape attributes."""
    special = _SPECIAL.get(name)
    if special is not None:
        return special(args, in_shape, tuple(output.shape))
    if name in _NEUTRAL and len(args) > 1 and isinstance(args[1], (int, float)) and args[1] == _NEUTRAL[name]:
        return VIEW, {}
    if name in _VIEWS or (name in ("slice", "expand", "split") and tuple(output.shape) == in_shape):
        return VIEW, {}
    return _VOCABULARY.get(name, f"op:{name}"), {}


def _steps(value: Any, axes: int) -> tuple[int, int]:
    """Stride or dilation, which torch may give once for all axes."""
    values = [int(item) for item in ([value] if isinstance(value, int) else value)]
    return steps(values * axes if len(values) == 1 else values)


def _matrix_product(left: int) -> Callable[[list[Any], Shape, Shape], tuple[str, dict[str, Any]]]:
    """Product whose left operand is the ``left``-th argument; its MACs are counted here where that is no activation."""

    def describe(args: list[Any], in_shape: Shape, out_shape: Shape) -> tuple[str, dict[str, Any]]:
        inner = int(args[left].shape[-1])
        return "gemm", {} if in_shape[-1] == inner else {"macs": math.prod(out_shape) * inner}

    return describe


def _convolution(args: list[Any], in_shape: Shape, out_shape: Shape) -> tuple[str, dict[str, Any]]:
    weight, stride, dilation, transposed, groups = args[1], args[3], args[5], args[6], args[8]
    details = {
        "kernel": rows_and_columns(weight.shape[2:]),
        "stride": _steps(stride, weight.dim() - 2),
        "groups": int(groups),
        "dilation": _steps(dilation, weight.dim() - 2),
    }
    return ("transposed_conv" if transposed else "conv"), details


def _pool(kind: str) -> Callable[[list[Any], Shape, Shape], tuple[str, dict[str, Any]]]:
    def describe(args: list[Any], in_shape: Shape, out_shape: Shape) -> tuple[str, dict[str, Any]]:
        if out_shape[-2:] == (1, 1) and in_shape[-2:] == _pair(args[1]):
            return "global_pool", {}
        return kind, {"kernel": _pair(args[1]), "stride": _pair(args[2] if len(args) > 2 and args[2] else args[1])}

    return describe


def _constant_pad(args: list[Any], in_shape: Shape, out_shape: Shape) -> tuple[str, dict[str, Any]]:
    pads, value = args[1], args[2] if len(args) > 2 else 0
    beside = in_shape[:-2] == out_shape[:-2] and len(in_shape) == 4
    return (_ZERO_PAD if beside and value == 0 and min(pads) >= 0 else "pad"), {}


def _mean(args: list[Any], in_shape: Shape, out_shape: Shape) -> tuple[str, dict[str, Any]]:
    axes = {axis % len(in_shape) for axis in args[1]} if len(args) > 1 and args[1] is not None else set()
    if len(in_shape) != 4 or axes != {2, 3}:
        return "reduce", {}
    # torch turns an adaptive pooling to 1x1 into this call; user code has (2, 3).
    return ("global_pool" if list(args[1]) == [-1, -2] else "spatial_mean"), {}


def _adaptive(args: list[Any], in_shape: Shape, out_shape: Shape) -> tuple[str, dict[str, Any]]:
    if out_shape[-2:] == (1, 1):
        return "global_pool", {}
    return "avg_pool", {"kernel": _pair([max(1, i // o) for i, o in zip(in_shape[-2:], out_shape[-2:], strict=True)])}


_SPECIAL: dict[str, Callable[[list[Any], Shape, Shape], tuple[str, dict[str, Any]]]] = {
    "convolution": _convolution,
    **dict.fromkeys(("mm", "bmm"), _matrix_product(0)),
    "addmm": _matrix_product(1),
    "avg_pool2d": _pool("avg_pool"),
    "max_pool2d_with_indices": _pool("max_pool"),
    "constant_pad_nd": _constant_pad,
    "mean": _mean,
    "_adaptive_avg_pool2d": _adaptive,
}
