"""Operators and conditions of TensorRT's ONNX importers, as data, one table per release.

The sets are what each release of onnx-tensorrt registers; the conditions are its checks that an input is stored in the file
(``weights``) or that its values are known when the network is built (``known``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Roles = Mapping[str, Mapping[int, str]]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_7_1 = _names("""
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Clip Concat Constant
    ConstantOfShape Conv ConvTranspose Cos Cosh DepthToSpace DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Floor
    GRU Gather Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater HardSigmoid Identity If ImageScaler
    InstanceNormalization LRN LSTM LeakyRelu Less Log LogSoftmax Loop MatMul Max MaxPool Mean Min Mul Neg Not Or PRelu Pad
    ParametricSoftplus Pow QuantizeLinear RNN RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ScaledTanh Scan Selu
    Shape Sigmoid Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu
    Tile TopK Transpose Unsqueeze Upsample Where
    """)
_8_2 = _7_1 | _names("""
    Celu CumSum Einsum EyeLike GatherElements GatherND GreaterOrEqual IsNaN LessOrEqual LpNormalization LpPool NonMaxSuppression
    ReverseSequence Round Scatter ScatterElements ScatterND Sign
    """)
_8_5 = _8_2 | _names("""
    GridSample HardSwish MeanVarianceNormalization Mod NonZero OneHot RandomNormal RandomNormalLike RoiAlign Shrink Trilu Xor
    """)
_8_6 = _8_5 | {"GroupNormalization", "IsInf", "LayerNormalization"}
_10 = _8_6 | {"CastLike", "DeformConv", "Gelu", "Hardmax", "Mish"}

_OLD_COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
_COORDINATES = (*_OLD_COORDINATES, "tf_half_pixel_for_nn")


@dataclass(frozen=True)
class ResizeRules:
    """Conditions under which Resize is imported.

    Attributes:
        modes: values of ``mode``.
        coordinates: values of ``coordinate_transformation_mode``.
        by: pairs of (``sizes`` or ``scales``, mode) and the coordinates they take, where those differ.
        nearest_modes: values of ``nearest_mode``; None: all.
    """

    modes: tuple[str, ...]
    coordinates: tuple[str, ...]
    by: Mapping[tuple[str, str], tuple[str, ...]]
    nearest_modes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Importer:
    """One release's ONNX importer.

    Attributes:
        version: of TensorRT.
        operators: types that it registers.
        weights: operator to input positions, with their roles, that must be stored in the file.
        known: operator to input positions, with their roles, whose values must be known at build time.
        resize: conditions of Resize and Upsample.
        types: element types of inputs and outputs.
        casts: element types that Cast cannot give.
        functions: local functions are imported.
        any_einsum: Einsum takes an ellipsis and repeated indices.
    """

    version: str
    operators: frozenset[str]
    weights: Roles
    known: Roles
    resize: ResizeRules
    types: frozenset[str]
    casts: frozenset[str] = frozenset({"DOUBLE", "UINT8"})
    functions: bool = False
    any_einsum: bool = False


_KNOWN = {"Slice": {3: "axes"}, "Unsqueeze": {1: "axes"}}
_NORM = {"InstanceNormalization": {1: "scale", 2: "bias"}}
_DROPOUT = {"Dropout": {2: "training_mode"}}
_CONVOLUTIONS = {"Conv": {1: "weights", 2: "bias"}, "ConvTranspose": {1: "weights", 2: "bias"}}
_SCALES = {"Resize": {2: "scales"}, "Upsample": {1: "scales"}, "TopK": {1: "K"}}
_TYPES = frozenset({"FLOAT", "FLOAT16", "INT32", "INT64", "INT8", "BOOL"})
_RESIZE_7 = ResizeRules(
    ("nearest", "linear"),
    _OLD_COORDINATES,
    {
        ("sizes", "nearest"): ("asymmetric", "align_corners"),
        ("sizes", "linear"): ("half_pixel", "pytorch_half_pixel", "align_corners"),
        ("scales", "nearest"): ("asymmetric",),
        ("scales", "linear"): ("asymmetric", "half_pixel", "pytorch_half_pixel"),
    },
    ("floor",),
)
_RESIZE_8 = ResizeRules(("nearest", "linear"), _COORDINATES, {})
_RESIZE_8_5 = ResizeRules(("nearest", "linear", "cubic"), _COORDINATES, {})

TENSORRT_7_1 = Importer(
    "7.1",
    _7_1,
    {
        **_CONVOLUTIONS,
        **_NORM,
        **_SCALES,
        "Clip": {1: "minimum", 2: "maximum"},
        "If": {0: "condition"},
        "Pad": {1: "pads", 2: "value"},
    },
    _KNOWN,
    _RESIZE_7,
    _TYPES,
)
TENSORRT_8_2 = Importer(
    "8.2",
    _8_2,
    {
        **_CONVOLUTIONS,
        **_NORM,
        **_SCALES,
        **_DROPOUT,
        "CumSum": {1: "axis"},
        "NonMaxSuppression": {2: "max_output_boxes_per_class", 3: "iou_threshold", 4: "score_threshold"},
        "Squeeze": {1: "axes"},
    },
    _KNOWN,
    _RESIZE_8,
    _TYPES,
)
TENSORRT_8_5 = Importer(
    "8.5", _8_5, {**_NORM, **_DROPOUT}, _KNOWN, _RESIZE_8_5, _TYPES | {"UINT8"}, frozenset({"DOUBLE"})
)
TENSORRT_8_6 = Importer("8.6", _8_6, _DROPOUT, _KNOWN, _RESIZE_8_5, _TYPES | {"UINT8"}, frozenset({"DOUBLE"}))
TENSORRT_10 = Importer(
    "10",
    _10,
    _DROPOUT,
    _KNOWN,
    _RESIZE_8_5,
    _TYPES | {"UINT8", "BFLOAT16"},
    frozenset({"DOUBLE"}),
    functions=True,
    any_einsum=True,
)

ADVICE: Mapping[str, str] = {
    "ConcatFromSequence": "join tensors with Concat",
    "ConvInteger": "quantize with QuantizeLinear and DequantizeLinear pairs, or export float weights",
    "DynamicQuantizeLinear": "quantize with fixed scales, or export float weights",
    "GatherElements": "use Gather",
    "Gelu": "write it with Erf",
    "GridSample": "resample with Resize, or compute the samples outside the network",
    "GroupNormalization": "export at an opset below 18",
    "HardSwish": "decompose it to HardSigmoid and Mul",
    "IsInf": "leave the check out, or compare with a large constant by Greater",
    "LayerNormalization": "export at an opset below 17",
    "MatMulInteger": "quantize with QuantizeLinear and DequantizeLinear pairs, or export float weights",
    "Mish": "write it with Softplus, Tanh and Mul",
    "Mod": "write it with Div, Floor, Mul and Sub",
    "NonZero": "leave the selection to the code after the network",
    "OneHot": "gather rows of a constant identity matrix",
    "QLinearConv": "quantize with QuantizeLinear and DequantizeLinear pairs, or export float weights",
    "QLinearMatMul": "quantize with QuantizeLinear and DequantizeLinear pairs, or export float weights",
    "RandomNormal": "feed the random numbers as an input",
    "RandomNormalLike": "feed the random numbers as an input",
    "RoiAlign": "crop outside the network",
    "Round": "add 0.5 and use Floor",
    "Shrink": "write it with Where",
    "SplitToSequence": "use Split, which returns tensors",
    "Trilu": "multiply by a constant mask",
    "Xor": "write it with And, Or and Not",
}
"""Fix for an operator without importer."""
