"""Differentiable torch implementations of ONNX operators, for Python 3.6 and torch 1.10 on: boards run this file, too.

Each is called with a step, which has ``attributes`` (plain values), ``outputs`` (names) and ``out_shape`` (of the first output, for
batch 1), and with one argument per input: a tensor, a numpy array for a setting, None if omitted. The batch size of activations may
differ from the graph's.
"""

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import torch
from torch.nn import functional


def _conv(step: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    top, left, bottom, right = step.attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
    stride, dilation = _pair(step, "strides"), _pair(step, "dilations")
    return functional.conv2d(x, weight, bias, stride, (top, left), dilation, step.attributes.get("group", 1))


def _conv_transpose(step: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    top, left, _, _ = step.attributes.get("pads", (0, 0, 0, 0))
    extra = tuple(step.attributes.get("output_padding", (0, 0)))
    groups, stride, dilation = step.attributes.get("group", 1), _pair(step, "strides"), _pair(step, "dilations")
    return functional.conv_transpose2d(x, weight, bias, stride, (top, left), extra, groups, dilation)


def _gemm(step: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    product = x @ (weight.T if step.attributes.get("transB", 0) else weight) * float(step.attributes.get("alpha", 1.0))
    return product if bias is None else product + float(step.attributes.get("beta", 1.0)) * bias


def _batch_norm(step: Any, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    return functional.batch_norm(x, mean, variance, scale, bias, eps=step.attributes.get("epsilon", 1e-5))


def _clip(step: Any, x: Any, low: Any = None, high: Any = None) -> Any:
    return x.clamp(None if low is None else float(low), None if high is None else float(high))


def _hard_sigmoid(step: Any, x: Any) -> Any:
    slope, offset = float(step.attributes.get("alpha", 0.2)), float(step.attributes.get("beta", 0.5))
    return (x * slope + offset).clamp(0.0, 1.0)


def _average_pool(step: Any, x: Any) -> Any:
    return functional.avg_pool2d(
        x, **_window(step), count_include_pad=bool(step.attributes.get("count_include_pad", 0))
    )


def _max_pool(step: Any, x: Any) -> Any:
    return functional.max_pool2d(x, **_window(step), dilation=_pair(step, "dilations"))


def _window(step: Any) -> Dict[str, Any]:
    return {
        "kernel_size": _pair(step, "kernel_shape"),
        "stride": _pair(step, "strides"),
        "padding": tuple(step.attributes.get("pads", (0, 0, 0, 0))[:2]),
        "ceil_mode": bool(step.attributes.get("ceil_mode", 0)),
    }


def _reduce_mean(step: Any, x: Any, axes: Any = None) -> Any:
    return x.mean(_axes(step, axes) or None, keepdim=bool(step.attributes.get("keepdims", 1)))


RESIZES = {
    ("nearest", "asymmetric"): ("nearest", None),
    ("linear", "half_pixel"): ("bilinear", False),
    ("linear", "pytorch_half_pixel"): ("bilinear", False),
    ("linear", "align_corners"): ("bilinear", True),
    ("cubic", "half_pixel"): ("bicubic", False),
    ("cubic", "pytorch_half_pixel"): ("bicubic", False),
    ("cubic", "align_corners"): ("bicubic", True),
}


def _resize(step: Any, x: Any, *sizes: Any) -> Any:
    way = step.attributes.get("mode", "nearest"), step.attributes.get("coordinate_transformation_mode", "half_pixel")
    mode, align = RESIZES[way]
    return functional.interpolate(x, size=step.out_shape[2:], mode=mode, align_corners=align)


def _reshape(step: Any, x: Any, shape: Any) -> Any:
    sizes = [x.shape[axis] if size == 0 else int(size) for axis, size in enumerate(shape)]
    return x.reshape(len(x), *sizes[1:])


def _slice(step: Any, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    chosen = [slice(None)] * x.ndim
    for position, (start, end) in enumerate(zip(starts, ends)):
        axis = position if axes is None else int(axes[position])
        chosen[axis] = slice(int(start), int(end), 1 if steps is None else int(steps[position]))
    return x[tuple(chosen)]


def _split(step: Any, x: Any, sizes: Any = None) -> Sequence[Any]:
    axis = step.attributes.get("axis", 0)
    wanted = step.attributes.get("split") if sizes is None else [int(size) for size in sizes]
    return torch.split(x, list(wanted), axis) if wanted else x.chunk(len(step.outputs), axis)


def _pad(step: Any, x: Any, pads: Any, value: Any = None) -> Any:
    half = len(pads) // 2
    amounts = [int(pads[index]) for axis in reversed(range(half)) for index in (axis, axis + half)]
    mode = {"edge": "replicate"}.get(step.attributes.get("mode", "constant"), step.attributes.get("mode", "constant"))
    if mode != "constant":
        return functional.pad(x, amounts[:4], mode=mode)
    return functional.pad(x, amounts, value=0.0 if value is None else float(value))


def _expand(step: Any, x: Any, shape: Any) -> Any:
    return x.expand(len(x), *step.out_shape[1:])


def _axes(step: Any, axes: Any) -> List[int]:
    return [int(axis) for axis in (step.attributes.get("axes", ()) if axes is None else axes)]


def _squeeze(step: Any, x: Any, axes: Any = None) -> Any:
    for axis in sorted((axis % x.ndim for axis in _axes(step, axes)), reverse=True):
        x = x.squeeze(axis)
    return x


def _unsqueeze(step: Any, x: Any, axes: Any = None) -> Any:
    for axis in sorted(_axes(step, axes)):
        x = x.unsqueeze(axis)
    return x


def _gather(step: Any, x: Any, indices: Any) -> Any:
    chosen = torch.as_tensor(np.asarray(indices), device=x.device)
    return x.index_select(step.attributes.get("axis", 0), chosen.reshape(-1))


def _pair(step: Any, name: str) -> Tuple[int, int]:
    first, second = step.attributes.get(name, (1, 1))
    return first, second


OPERATIONS: Dict[str, Callable[..., Any]] = {
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


def as_quantized(step: Any, x: Any, scale: Any, zero: Any = None) -> Any:
    """QuantizeLinear: round half to even, saturate; the integers stay in float32."""
    signed = zero is not None and zero.dtype == torch.int8
    low, high = (-128.0, 127.0) if signed else (0.0, 255.0)
    offset = 0.0 if zero is None else _along(step, zero.float(), x)
    return (torch.round(x / _along(step, scale, x)) + offset).clamp(low, high)


def as_real(step: Any, x: Any, scale: Any, zero: Any = None) -> Any:
    """DequantizeLinear."""
    offset = 0.0 if zero is None else _along(step, zero.float(), x)
    return (x.float() - offset) * _along(step, scale, x)


def _along(step: Any, values: Any, x: Any) -> Any:
    """Reshape one value per channel for broadcasting along the step's axis; a single value stays as it is."""
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.ndim
    shape[step.attributes.get("axis", 1)] = -1
    return values.reshape(shape)
