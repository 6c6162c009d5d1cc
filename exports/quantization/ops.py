"""Differentiable torch implementations of ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from exports.errors import ExportError

Result = Tensor | Sequence[Tensor]

# Operators whose constant inputs are operands; the constants of all others are settings (sizes, axes, bounds).
COMPUTE_WITH_CONSTANTS = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Concat", "PRelu"}
    | {"BatchNormalization"}
)


@dataclass(frozen=True)
class Step:
    """One node of the graph.

    Attributes:
        op: ONNX operator.
        name: unique within the graph.
        inputs: names of tensors; empty for an omitted optional one.
        outputs: names of tensors.
        attributes: plain values, strings decoded.
        out_shape: shape of the first output, for batch 1.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    out_shape: tuple[int, ...]


def run_step(step: Step, arguments: Sequence[Any]) -> Sequence[Tensor]:
    """Compute the outputs of ``step``.

    Args:
        arguments: one per input: a tensor, a numpy array for a setting, None if omitted. The batch size of activations
            may differ from the graph's.
    """
    result = OPERATIONS[step.op](step, *arguments)
    return (result,) if isinstance(result, Tensor) else tuple(result)


def check_step(step: Step) -> None:
    """Raise ExportError for an operator, or a mode of one, that is not supported."""
    reason = None
    if step.op not in OPERATIONS:
        reason = f"operator {step.op} is not known to it"
    elif step.op == "Resize":
        way = (
            step.attributes.get("mode", "nearest"),
            step.attributes.get("coordinate_transformation_mode", "half_pixel"),
        )
        if way not in _RESIZES:
            reason = f"Resize with mode {way[0]} and coordinates {way[1]} is not known to it"
    elif step.op in ("AveragePool", "MaxPool"):
        top, left, bottom, right = step.attributes.get("pads", (0, 0, 0, 0))
        if (top, left) != (bottom, right):
            reason = f"{step.op} with uneven padding is not known to it"
    if reason is not None:
        raise ExportError(
            f"the network cannot be brought to a lower precision: {reason}. Set device.precision to fp32, or leave the family "
            "or decoder with it out of the search space."
        )


def _conv(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = step.attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
    stride, dilation = _pair(step, "strides"), _pair(step, "dilations")
    return functional.conv2d(x, weight, bias, stride, (top, left), dilation, step.attributes.get("group", 1))


def _conv_transpose(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, _, _ = step.attributes.get("pads", (0, 0, 0, 0))
    extra = tuple(step.attributes.get("output_padding", (0, 0)))
    groups, stride, dilation = step.attributes.get("group", 1), _pair(step, "strides"), _pair(step, "dilations")
    return functional.conv_transpose2d(x, weight, bias, stride, (top, left), extra, groups, dilation)


def _gemm(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = x @ (weight.T if step.attributes.get("transB", 0) else weight) * float(step.attributes.get("alpha", 1.0))
    return product if bias is None else product + float(step.attributes.get("beta", 1.0)) * bias


def _batch_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, bias, eps=step.attributes.get("epsilon", 1e-5))


def _clip(step: Step, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    return x.clamp(None if low is None else float(low), None if high is None else float(high))


def _hard_sigmoid(step: Step, x: Tensor) -> Tensor:
    slope, offset = float(step.attributes.get("alpha", 0.2)), float(step.attributes.get("beta", 0.5))
    return (x * slope + offset).clamp(0.0, 1.0)


def _average_pool(step: Step, x: Tensor) -> Tensor:
    return functional.avg_pool2d(
        x, **_window(step), count_include_pad=bool(step.attributes.get("count_include_pad", 0))
    )


def _max_pool(step: Step, x: Tensor) -> Tensor:
    pooled: Tensor = functional.max_pool2d(x, **_window(step), dilation=_pair(step, "dilations"))
    return pooled


def _window(step: Step) -> dict[str, Any]:
    return {
        "kernel_size": _pair(step, "kernel_shape"),
        "stride": _pair(step, "strides"),
        "padding": tuple(step.attributes.get("pads", (0, 0, 0, 0))[:2]),
        "ceil_mode": bool(step.attributes.get("ceil_mode", 0)),
    }


def _reduce_mean(step: Step, x: Tensor, axes: Any = None) -> Tensor:
    return x.mean(_axes(step, axes) or None, keepdim=bool(step.attributes.get("keepdims", 1)))


_RESIZES = {
    ("nearest", "asymmetric"): ("nearest", None),
    ("linear", "half_pixel"): ("bilinear", False),
    ("linear", "pytorch_half_pixel"): ("bilinear", False),
    ("linear", "align_corners"): ("bilinear", True),
    ("cubic", "half_pixel"): ("bicubic", False),
    ("cubic", "pytorch_half_pixel"): ("bicubic", False),
    ("cubic", "align_corners"): ("bicubic", True),
}


def _resize(step: Step, x: Tensor, *sizes: Any) -> Tensor:
    way = step.attributes.get("mode", "nearest"), step.attributes.get("coordinate_transformation_mode", "half_pixel")
    mode, align = _RESIZES[way]
    return functional.interpolate(x, size=step.out_shape[2:], mode=mode, align_corners=align)


def _reshape(step: Step, x: Tensor, shape: Any) -> Tensor:
    sizes = [x.shape[axis] if size == 0 else int(size) for axis, size in enumerate(shape)]
    return x.reshape(len(x), *sizes[1:])


def _slice(step: Step, x: Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Tensor:
    chosen = [slice(None)] * x.ndim
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = position if axes is None else int(axes[position])
        chosen[axis] = slice(int(start), int(end), 1 if steps is None else int(steps[position]))
    return x[tuple(chosen)]


def _split(step: Step, x: Tensor, sizes: Any = None) -> Sequence[Tensor]:
    axis = step.attributes.get("axis", 0)
    wanted = step.attributes.get("split") if sizes is None else [int(size) for size in sizes]
    return torch.split(x, list(wanted), axis) if wanted else x.chunk(len(step.outputs), axis)


def _pad(step: Step, x: Tensor, pads: Any, value: Any = None) -> Tensor:
    half = len(pads) // 2
    amounts = [int(pads[index]) for axis in reversed(range(half)) for index in (axis, axis + half)]
    mode = {"edge": "replicate"}.get(step.attributes.get("mode", "constant"), step.attributes.get("mode", "constant"))
    if mode != "constant":
        return functional.pad(x, amounts[:4], mode=mode)
    return functional.pad(x, amounts, value=0.0 if value is None else float(value))


def _expand(step: Step, x: Tensor, shape: Any) -> Tensor:
    return x.expand(len(x), *step.out_shape[1:])


def _axes(step: Step, axes: Any) -> list[int]:
    return [int(axis) for axis in (step.attributes.get("axes", ()) if axes is None else axes)]


def _squeeze(step: Step, x: Tensor, axes: Any = None) -> Tensor:
    return x.squeeze(_axes(step, axes))


def _unsqueeze(step: Step, x: Tensor, axes: Any = None) -> Tensor:
    for axis in sorted(_axes(step, axes)):
        x = x.unsqueeze(axis)
    return x


def _gather(step: Step, x: Tensor, indices: Any) -> Tensor:
    chosen = torch.as_tensor(np.asarray(indices), device=x.device)
    return x.index_select(step.attributes.get("axis", 0), chosen.reshape(-1))


def _pair(step: Step, name: str) -> tuple[int, int]:
    first, second = step.attributes.get(name, (1, 1))
    return first, second


OPERATIONS: dict[str, Callable[..., Result]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": lambda step, x, y: x @ y,
    "BatchNormalization": _batch_norm,
    "Add": lambda step, x, y: x + y,
    "Sub": lambda step, x, y: x - y,
    "Mul": lambda step, x, y: x * y,
    "Div": lambda step, x, y: x / y,
    "Pow": lambda step, x, y: x**y,
    "Max": lambda step, x, y: torch.maximum(x, y),
    "Min": lambda step, x, y: torch.minimum(x, y),
    "Concat": lambda step, *values: torch.cat(values, step.attributes["axis"]),
    "Relu": lambda step, x: x.relu(),
    "PRelu": lambda step, x, slope: torch.where(x < 0, x * slope, x),
    "LeakyRelu": lambda step, x: functional.leaky_relu(x, step.attributes.get("alpha", 0.01)),
    "Clip": _clip,
    "Sigmoid": lambda step, x: x.sigmoid(),
    "Tanh": lambda step, x: x.tanh(),
    "Erf": lambda step, x: x.erf(),
    "Exp": lambda step, x: x.exp(),
    "Sqrt": lambda step, x: x.sqrt(),
    "Reciprocal": lambda step, x: x.reciprocal(),
    "Neg": lambda step, x: -x,
    "Abs": lambda step, x: x.abs(),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda step, x: functional.hardswish(x),
    "Softmax": lambda step, x: x.softmax(step.attributes.get("axis", -1)),
    "GlobalAveragePool": lambda step, x: x.mean((2, 3), keepdim=True),
    "GlobalMaxPool": lambda step, x: x.amax((2, 3), keepdim=True),
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "ReduceMean": _reduce_mean,
    "Resize": _resize,
    "Identity": lambda step, x: x,
    "Reshape": _reshape,
    "Flatten": lambda step, x: x.flatten(step.attributes.get("axis", 1)),
    "Transpose": lambda step, x: x.permute(step.attributes["perm"]),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Pad": _pad,
    "Expand": _expand,
    "Gather": _gather,
}
