"""INT8 variant of a bundle: Q/DQ pairs by ONNX Runtime's static quantization, in the form that TensorRT takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from exports.bundle.inputs import BundleInputs
from exports.errors import ExportError
from exports.lint import lint_onnx
from exports.onnx.export import cpu_copy
from exports.onnx.parity import LabelArray, ParityReport, compare_logits, run_torch
from exports.onnx.runtime import FloatArray, OnnxSession

INT8_FILE = "model-int8.onnx"
INT8_MIOU = 0.01
"""Largest difference of mIoU in INT8, 1 point."""
INT8_CHANCE = 0.98
"""Share of equal pixels from which on a larger difference is attributed to the few images."""
INT8_AGREEMENT = 0.9
"""Smallest share of equal pixels in INT8."""
_TOLERANCE = 0.5
_QUANTIZED = ("Conv", "Gemm", "MatMul", "Add", "MaxPool")


@dataclass(frozen=True)
class Int8:
    """The INT8 step.

    Attributes:
        model: the quantized graph.
        parity: its agreement with torch.
        images: number of training images that the ranges are of.
    """

    model: onnx.ModelProto
    parity: ParityReport
    images: int


def int8_step(onnx_path: Path, inputs: BundleInputs) -> Int8 | str | None:
    """Quantize an exported network with the bundle's calibration images and compare it with torch on its validation images.

    Weights have one scale for each output channel, activations one for each tensor, both symmetric; a range is the mean of the
    images' extremes. Biases stay in float32, because TensorRT takes none in INT32.

    Returns:
        The step; the reason why it was not made; or None where the bundle has no calibration images or is in INT8 itself.
    """
    images = inputs.calibration
    if images is None or inputs.network.quantized is not None:
        return None
    try:
        model = quantized_model(onnx_path, images)
    except ExportError as error:
        return str(error)
    errors = [finding.message for finding in lint_onnx(model, inputs.profile) if finding.severity == "error"]
    if errors:
        return f"{inputs.profile.name} does not take it: {errors[0]}"
    ours = run_torch(cpu_copy(inputs.network.net), inputs.images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / INT8_FILE
        path.write_bytes(model.SerializeToString(deterministic=True))
        theirs = OnnxSession(path).run(inputs.images)
    parity = int8_report(ours, theirs, inputs.images.shape[2:], inputs.labels, inputs.network.ignore_index)
    return Int8(model, parity, len(images))


def int8_report(
    ours: FloatArray,
    theirs: FloatArray,
    input_hw: tuple[int, ...],
    labels: Sequence[LabelArray] | None,
    ignore_index: int,
    name: str = "INT8",
) -> ParityReport:
    """Compare logits with those of an INT8 form of the network by the gates of INT8; arguments as of `compare_logits`."""
    return compare_logits(
        ours,
        theirs,
        input_hw,
        labels,
        ignore_index,
        tolerance=_TOLERANCE,
        min_agreement=INT8_AGREEMENT,
        miou_tolerance=INT8_MIOU,
        chance=INT8_CHANCE,
        name=name,
    )


def quantized_model(onnx_path: Path, images: FloatArray) -> onnx.ModelProto:
    """Return the graph with Q/DQ pairs around its convolutions, products, sums and max poolings.

    Args:
        onnx_path: an exported float32 network.
        images: float32 (N, 3, height, width), normalised.

    Raises:
        ExportError: ONNX Runtime cannot quantize it.
    """
    model = onnx.load(str(onnx_path))
    add_pre_process_metadata(model)
    options: dict[str, Any] = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "CalibMovingAverage": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / INT8_FILE
        try:
            quantize_static(
                model,
                str(path),
                _Images(model.graph.input[0].name, images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTIZED),
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=options,
            )
        except (ValueError, KeyError, RuntimeError) as error:
            raise ExportError(f"ONNX Runtime cannot quantize it: {' '.join(str(error).split())[:200]}") from error
        return onnx.load(str(path))


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Calibration images, one at a time."""

    def __init__(self, name: str, images: FloatArray) -> None:
        self._feeds: Iterator[dict[str, FloatArray]] = ({name: image[None]} for image in images)

    def get_next(self) -> dict[str, FloatArray] | None:
        return next(self._feeds, None)
