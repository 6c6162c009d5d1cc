"""Largest sizes of outputs whose size the data decides, and shapes of operators outside the standard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from exports.onnx.macs import Shape
from exports.onnx.values import OpenShape, Value

Inputs = Sequence[Value | None]


def largest(op: str, attributes: Mapping[str, Any], inputs: Inputs, output: int) -> OpenShape | None:
    """Upper bound of an output's sizes where the data decides them; None for an operator without one."""
    source = inputs[0] if inputs else None
    if source is None:
        return None
    elements = math.prod(source.shape)
    if op == "NonZero":
        return (max(len(source.shape), 1), elements)
    if op == "NonMaxSuppression":
        return (_most_boxes(inputs), 3)
    if op in ("Unique", "Compress"):
        axis = attributes.get("axis")
        if axis is None or (op == "Unique" and output > 0):
            return (elements if axis is None else source.shape[axis],)
        return source.shape
    if op in ("Slice", "TopK", "Split", "CenterCropPad"):
        return source.shape
    return None


def old_form(op: str, attributes: Mapping[str, Any], inputs: Inputs) -> Shape | None:
    """Shape of the output of an operator as it was defined before onnx inferred shapes; None where it is not known."""
    source = inputs[0] if inputs else None
    if source is None:
        return None
    if op == "Reshape" and "shape" in attributes:
        sizes = [source.shape[place] if size == 0 else int(size) for place, size in enumerate(attributes["shape"])]
        rest = math.prod(size for size in sizes if size > 0)
        return tuple(math.prod(source.shape) // max(rest, 1) if size < 0 else size for size in sizes)
    if op == "Upsample" and "height_scale" in attributes and len(source.shape) == 4:
        scales = (1.0, 1.0, float(attributes["height_scale"]), float(attributes.get("width_scale", 1.0)))
        return tuple(int(size * scale) for size, scale in zip(source.shape, scales, strict=True))
    return source.shape if op in ELEMENTWISE else None


def _most_boxes(inputs: Inputs) -> int:
    boxes, scores = inputs[0], inputs[1]
    if boxes is None or scores is None or len(boxes.shape) != 3 or len(scores.shape) != 3:
        return 1
    wanted = inputs[2].scalar() if len(inputs) > 2 and inputs[2] is not None else None
    each = boxes.shape[1] if wanted is None else min(int(wanted), boxes.shape[1])
    return max(scores.shape[0] * scores.shape[1] * each, 1)


def contributed(op: str, attributes: Mapping[str, Any], inputs: Inputs) -> list[Shape | None] | None:
    """Shapes of the outputs of an operator of ONNX Runtime's own domain, None for one it leaves to the other outputs.

    None where the operator is not known.
    """
    shapes: list[Shape] = [() if value is None else value.shape for value in inputs]
    if not shapes:
        return None
    if op in ("ReorderInput", "ReorderOutput"):
        return [_reordered(op, attributes, shapes[0])]
    if op == "DynamicQuantizeLSTM":
        steps, batch, ways, hidden = *shapes[0][:2], shapes[2][0], shapes[2][1]
        return [(steps, ways, batch, hidden), (ways, batch, hidden), (ways, batch, hidden)]
    if op in _LIKE_FIRST:
        return [shapes[0]]
    if op in _BROADCAST:
        first, second = _BROADCAST[op]
        return [np.broadcast_shapes(shapes[first], shapes[second])]
    if op in _PRODUCTS:
        first, second = _PRODUCTS[op]
        return [_product(shapes[first], shapes[second], attributes)]
    if op in ("MatMulNBits", "MatMulBnb4"):
        return [(*shapes[0][:-1], int(attributes["N"]))]
    if op in ("Attention", "QAttention"):
        return [(*shapes[0][:2], shapes[1][-1] // 3)]
    if op in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"):
        return [shapes[0], None, None, shapes[0]]
    if op == "EmbedLayerNormalization":
        return [(*shapes[0][:2], shapes[2][-1]), (shapes[0][0],), (*shapes[0][:2], shapes[2][-1])]
    if op == "BiasSplitGelu":
        return [(*shapes[0][:-1], shapes[0][-1] // 2)]
    if op == "QLinearGlobalAveragePool":
        last = bool(attributes.get("channels_last", 0))
        ones = (1,) * (len(shapes[0]) - 2)
        return [(shapes[0][0], *ones, shapes[0][-1]) if last else (*shapes[0][:2], *ones)]
    if op == "QLinearConcat":
        parts, axis = shapes[2::3], int(attributes["axis"])
        joined = list(parts[0])
        joined[axis] = sum(part[axis] for part in parts)
        return [tuple(joined)]
    return None


_LIKE_FIRST = frozenset(
    {
        "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "BiasSoftmax", "BiasAdd", "GroupNorm", "SkipGroupNorm",
        "SimplifiedLayerNormalization", "LayerNormalization", "RotaryEmbedding", "MultiHeadAttention",
        "GroupQueryAttention", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "Inverse", "BiasDropout",
        "DequantizeLinear", "QuantizeLinear", "Affine", "ImageScaler", "ParametricSoftplus", "ScaledTanh", "Scale",
    }
)  # fmt: skip
_BROADCAST = {"QLinearAdd": (0, 3), "QLinearMul": (0, 3), "QLinearWhere": (1, 4)}
_PRODUCTS = {
    "FusedMatMul": (0, 1),
    "TransposeMatMul": (0, 1),
    "FusedGemm": (0, 1),
    "QGemm": (0, 3),
    "MatMulIntegerToFloat": (0, 1),
    "DynamicQuantizeMatMul": (0, 1),
    "MatMulInteger16": (0, 1),
    "GemmFastGelu": (0, 1),
}
NCHWC = "com.microsoft.nchwc"
STANDARD_FORM = {
    ("com.microsoft", "FusedConv"): "Conv",
    **{(NCHWC, op): op for op in ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")},
}
"""Operators of ONNX Runtime's domains whose shapes are those of a standard one."""


def contributed_kind(op: str, inputs: Inputs, kind: int) -> int:
    """Element type of the outputs of an operator of ONNX Runtime's domain; ``kind`` is that of its first input."""
    if op == "QLinearConcat" and len(inputs) > 2 and inputs[2] is not None:
        return inputs[2].kind
    if op in ("DequantizeLinear", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"):
        return int(TensorProto.FLOAT)
    return int(TensorProto.UINT8) if op == "QuantizeLinear" else kind


def _reordered(op: str, attributes: Mapping[str, Any], shape: Shape) -> Shape:
    """Shape after a change between planes or channels-last and ONNX Runtime's blocks, whose sizes are those of planes."""
    last = bool(attributes.get("channels_last", 0))
    if op == "ReorderInput":
        return (shape[0], shape[-1], *shape[1:-1]) if last else shape
    planes = (shape[0], int(attributes.get("channels", shape[1])), *shape[2:])
    return (planes[0], *planes[2:], planes[1]) if last else planes


def _product(left: Shape, right: Shape, attributes: Mapping[str, Any]) -> Shape:
    if attributes.get("transA", 0) and len(left) > 1:
        left = (*left[:-2], left[-1], left[-2])
    if attributes.get("transB", 0) and len(right) > 1:
        right = (*right[:-2], right[-1], right[-2])
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    return (*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))


ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "And", "BatchNormalization", "Cast", "Ceil", "Clip", "Div", "Dropout", "Elu", "Equal", "Exp", "Floor",
        "Greater", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "Less",
        "Log", "LogSoftmax", "LpNormalization", "Max", "Mean", "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Pow",
        "Reciprocal", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "Xor",
        "ThresholdedRelu", "MeanVarianceNormalization", "ImageScaler", "ParametricSoftplus", "Scale", "Affine", "Crop",
        "ZipMap", "Normalizer", "Scaler", "Binarizer", "Imputer", "LabelEncoder", "StringNormalizer", "CastMap",
    }
)  # fmt: skip
"""Operators whose first output has the shape of the first input where onnx infers none, as for old opsets."""
