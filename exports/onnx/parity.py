"""Parity of an exported file with its torch network on real images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exports.onnx.export import cpu_copy
from exports.onnx.runtime import FloatArray, OnnxSession
from search_spaces._common.confusion import confusion_counts, mean_iou

LabelArray = NDArray[np.uint8]

# Float32 graphs with folded batch norms differ by 1e-7 to 1e-4 of the range; a wrong operator differs by 1e-2 and more.
REL_TOLERANCE = 1e-3
MIN_AGREEMENT = 0.9999
MIOU_TOLERANCE = 0.0005
QUANTIZED_TOLERANCE = 0.1
QUANTIZED_AGREEMENT = 0.98
QUANTIZED_MIOU = 0.005
# Two classes closer than this ratio of the range are a tie: the argmax between them depends on rounding.
_TIE = 1e-5


@dataclass(frozen=True)
class ParityReport:
    """Result of a parity check.

    Attributes:
        images: number of images.
        max_abs_error: largest difference of any logit; NaN if an output was not finite.
        max_rel_error: ``max_abs_error`` over the range (max - min) of torch's logits over all images.
        argmax_agreement: ratio of pixels with the same class after upsampling, 0 to 1.
        miou_torch, miou_onnx: mean IoU over the classes that occur, 0 to 1; None without labels.
        tolerance: limit of ``max_rel_error``.
        passed: True if all limits are met.
        reason: one clause: the failed limit, or a summary.
    """

    images: int
    max_abs_error: float
    max_rel_error: float
    argmax_agreement: float
    miou_torch: float | None
    miou_onnx: float | None
    tolerance: float
    passed: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON; NaN and infinity become None."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def check_parity(
    net: nn.Module,
    onnx_path: Path,
    images: FloatArray,
    labels: Sequence[LabelArray] | None = None,
    ignore_index: int = 255,
    *,
    tolerance: float = REL_TOLERANCE,
    min_agreement: float = MIN_AGREEMENT,
    miou_tolerance: float = MIOU_TOLERANCE,
) -> ParityReport:
    """Compare logits, classes after upsampling, and (with labels) mIoU of a network and its ONNX file on ``images``.

    Passes if all outputs are finite, the largest logit error is at most ``tolerance`` of the logit range, at
    least ``min_agreement`` of the pixels have the same class, and the two mIoU differ by at most ``miou_tolerance``. Upsampling is
    bilinear (half-pixel centres) to the label's own size, or to the input's size without labels.

    Args:
        net: the trained network; copied to the CPU, not changed.
        onnx_path: its export.
        images: float32 (N, 3, height, width), normalised as in training, N at least 1.
        labels: N arrays uint8 (h, w) of class ids or ``ignore_index``, any size each.

        tolerance, min_agreement, miou_tolerance: the limits.

    Raises:
        ExportError: the file cannot be loaded.
        ValueError: there is no image, shapes do not match, or a label is not below the number of classes.
    """
    if len(images) == 0:
        raise ValueError("parity needs at least one image")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"parity got {len(images)} images and {len(labels)} labels")
    session = OnnxSession(onnx_path)
    copied = cpu_copy(net)
    ours, theirs = run_torch(copied, images), session.run(images)
    return compare_logits(
        ours,
        theirs,
        images.shape[2:],
        labels,
        ignore_index,
        tolerance=tolerance,
        min_agreement=min_agreement,
        miou_tolerance=miou_tolerance,
    )


def compare_logits(
    ours: FloatArray,
    theirs: FloatArray,
    input_hw: tuple[int, ...],
    labels: Sequence[LabelArray] | None,
    ignore_index: int,
    *,
    tolerance: float,
    min_agreement: float,
    miou_tolerance: float,
    chance: float = 1.0,
    name: str = "the ONNX file",
) -> ParityReport:
    """Compare logits (N, classes, h, w) of torch with those of another form of the network; limits as of `check_parity`.

    Args:
        chance: from this share of equal pixels on a difference of mIoU is attributed to the few images, and passes.
        name: of the other form, for the reason.

    Raises:
        ValueError: shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"torch gives logits {ours.shape}, {name} {theirs.shape}: it is another network's")
    for who, logits in (("torch", ours), (name, theirs)):
        finite = np.isfinite(logits).all(axis=(1, 2, 3))
        if not finite.all():
            where = int(np.flatnonzero(~finite)[0])
            reason = f"{who} gives NaN or infinity for image {where}; the training probably diverged"
            return ParityReport(len(ours), math.nan, math.nan, 0.0, None, None, tolerance, False, reason)
    error, span = float(np.abs(ours - theirs).max()), float(np.ptp(ours))
    relative = 0.0 if error == 0.0 else (error / span if span > 0.0 else math.inf)
    agreement, miou_torch, miou_onnx = _compare_classes(ours, theirs, input_hw, labels, ignore_index, span)
    reason = ""
    if not relative <= tolerance:
        reason = f"logits differ by {relative:.2g} of their range, more than {tolerance:g}"
    elif agreement < min_agreement:
        reason = f"only {agreement:.4%} of the pixels get the same class, fewer than {min_agreement:.2%}"
    elif agreement < chance and _differ(miou_torch, miou_onnx, miou_tolerance):
        reason = f"mIoU is {miou_torch:.4f} in torch and {miou_onnx:.4f} in {name}"
    passed = not reason
    reason = reason or f"same classes on {agreement:.3%} of the pixels of {len(ours)} images"
    return ParityReport(len(ours), error, relative, agreement, miou_torch, miou_onnx, tolerance, passed, reason)


def _differ(one: float | None, other: float | None, tolerance: float) -> bool:
    return one is not None and other is not None and abs(one - other) > tolerance


def check_quantized(
    net: nn.Module,
    onnx_path: Path,
    images: FloatArray,
    labels: Sequence[LabelArray] | None = None,
    ignore_index: int = 255,
) -> ParityReport:
    """Compare a Q/DQ file with the network that simulates its rounding, with wider limits than `check_parity`.

    A sum halfway between two integers may be rounded either way, which propagates: logits may differ by some quantization
    steps, and classes may differ where two logits are close.
    """
    return check_parity(
        net,
        onnx_path,
        images,
        labels,
        ignore_index,
        tolerance=QUANTIZED_TOLERANCE,
        min_agreement=QUANTIZED_AGREEMENT,
        miou_tolerance=QUANTIZED_MIOU,
    )


def upsampled_classes(logits: FloatArray, size_hw: tuple[int, int]) -> LabelArray:
    """Upsample logits (1, classes, low, low) bilinearly to ``size_hw`` and take the argmax: class ids (h, w)."""
    classes: LabelArray = _upsample(logits, size_hw).argmax(axis=0).astype(np.uint8)
    return classes


def _upsample(logits: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    tensor = nn.functional.interpolate(torch.from_numpy(logits), size=size_hw, mode="bilinear", align_corners=False)
    upsampled: FloatArray = tensor[0].numpy()
    return upsampled


def run_torch(net: nn.Module, images: FloatArray) -> FloatArray:
    """Run a network on the CPU, one image at a time; return its logits (N, classes, h, w)."""
    with torch.no_grad():
        logits = [net(torch.from_numpy(np.ascontiguousarray(images[i : i + 1]))).numpy() for i in range(len(images))]
    return np.concatenate(logits)


def _compare_classes(
    ours: FloatArray,
    theirs: FloatArray,
    input_hw: tuple[int, ...],
    labels: Sequence[LabelArray] | None,
    ignore_index: int,
    span: float,
) -> tuple[float, float | None, float | None]:
    """Ratio of agreeing pixels, and both mIoU if there are labels; one image at a time, since labels may have 2 Mpixel."""
    classes = ours.shape[1]
    matrices = np.zeros((2, classes, classes), np.int64)
    same = total = 0
    for index in range(len(ours)):
        size = labels[index].shape if labels is not None else input_hw
        up_ours = _upsample(ours[index : index + 1], (size[0], size[1]))
        ids_ours = up_ours.argmax(axis=0)
        ids_theirs = _upsample(theirs[index : index + 1], (size[0], size[1])).argmax(axis=0)
        rows, columns = np.nonzero(ids_ours != ids_theirs)
        margin = up_ours[ids_ours[rows, columns], rows, columns] - up_ours[ids_theirs[rows, columns], rows, columns]
        same += ids_ours.size - int((margin > _TIE * span).sum())
        total += ids_ours.size
        if labels is not None:
            for matrix, ids in zip(matrices, (ids_ours, ids_theirs), strict=True):
                matrix += confusion_counts(ids, labels[index], classes, ignore_index)
    if labels is None:
        return same / total, None, None
    miou_torch, miou_onnx = (mean_iou(matrix) for matrix in matrices)
    if math.isnan(miou_torch) or math.isnan(miou_onnx):
        return same / total, None, None
    return same / total, miou_torch, miou_onnx
