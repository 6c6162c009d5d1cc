"""FP16 step of a bundle's parity ladder: conversion of the graph, its gates, and the nodes that have to stay in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from torch import nn

from exports.bundle.inputs import BundleInputs, CheckImages, ImagePart
from exports.errors import ExportError, ParityError
from exports.onnx.export import cpu_copy
from exports.onnx.graph import node_name
from exports.onnx.half import convert_to_half, offending_nodes
from exports.onnx.parity import LabelArray, ParityReport, compare_logits, run_torch
from exports.onnx.runtime import FloatArray, OnnxSession
from exports.quantization.net import HalfNet

FP16_MIOU = 0.002
"""Largest difference of mIoU in FP16, 0.2 points."""
FP16_AGREEMENT = 0.98
"""Smallest share of equal pixels in FP16."""
FP16_TOLERANCE = 0.1
"""Largest difference of a logit in FP16, relative to the range of the logits."""
MORE_IMAGES = 200
"""Most validation images that decide where the bundle's own few exceed the limit of mIoU alone."""
_SEARCH_IMAGES = 8

Run = Callable[[FloatArray], FloatArray]
"""Logits (N, classes, h, w) of images."""


@dataclass(frozen=True)
class Half:
    """The FP16 step.

    Attributes:
        model: the converted graph.
        parity: its agreement with torch.
        kept: names of the nodes that stay in float32, because FP16 breaks the gates in them.
    """

    model: onnx.ModelProto
    parity: ParityReport
    kept: tuple[str, ...]


def half_report(
    ours: FloatArray,
    theirs: FloatArray,
    input_hw: tuple[int, ...],
    labels: Sequence[LabelArray] | None,
    ignore_index: int,
    name: str = "FP16",
) -> ParityReport:
    """Compare logits with those of an FP16 form of the network by the gates of FP16; arguments as of `compare_logits`."""
    return compare_logits(
        ours,
        theirs,
        input_hw,
        labels,
        ignore_index,
        tolerance=FP16_TOLERANCE,
        min_agreement=FP16_AGREEMENT,
        miou_tolerance=FP16_MIOU,
        name=name,
    )


def fails_by_miou_alone(report: ParityReport) -> bool:
    """True for a report whose only broken limit is that of mIoU: of few images it is uncertain, and more of them decide."""
    close = report.max_rel_error <= report.tolerance and report.argmax_agreement >= FP16_AGREEMENT
    return not report.passed and close


def half_step(onnx_path: Path, inputs: BundleInputs | CheckImages) -> Half | str:
    """Convert an exported network to FP16 and check it on the images of ``inputs``.

    Every weight and activation is rounded to float16, in torch: ONNX Runtime computes FP16 graphs in float32 on a CPU. Where only
    the limit of mIoU is exceeded, on few images, up to `MORE_IMAGES` of the validation split decide. Where they fail, too, or another
    limit is exceeded, the offending nodes are found by bisection and kept in float32.

    Returns:
        The step, or the reason why torch cannot round the network: an operator that only ONNX Runtime knows.

    Raises:
        ParityError: no such choice of nodes meets the gates.
        ExportError: ONNX Runtime does not take the converted graph, or it does not agree with torch.
    """
    model = onnx.load(str(onnx_path))
    names = [node_name(node, index) for index, node in enumerate(model.graph.node) if node.op_type != "Constant"]
    try:
        HalfNet(model)
    except ExportError as error:
        return str(error)
    gate = _Gate(inputs)
    kept: list[str] = []
    report = gate.decide(_rounded(model, kept))
    if not report.passed:
        kept = _offending(gate, model, names)
        report = gate.decide(_rounded(model, kept))
        if len(kept) == len(names) or not report.passed:
            worst = gate.decide(_rounded(model, []))
            raise ParityError(
                f"in FP16 the network is not the one that was trained: {worst.reason}. Choose another trial, train with "
                "device.precision fp16, or deploy it in FP32."
            )
    converted = convert_to_half(model, kept)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.onnx"
        path.write_bytes(converted.SerializeToString(deterministic=True))
        stored = gate.decide(OnnxSession(path).run)
    if not stored.passed:
        raise ExportError(f"the graph converted to FP16 does not agree with torch: {stored.reason}. Please report it.")
    return Half(converted, report, tuple(kept))


def _rounded(model: onnx.ModelProto, keep: Collection[str]) -> Run:
    net: nn.Module = HalfNet(model, keep).eval()
    return lambda images: run_torch(net, images)


def _offending(gate: _Gate, model: onnx.ModelProto, names: Sequence[str]) -> list[str]:
    """Nodes to keep in float32, found on the images that FP16 changes most."""
    sample, everything = gate.most_changed(_rounded(model, [])), set(names)

    def passes(chosen: Collection[str]) -> bool:
        return sample.report(_rounded(model, everything - set(chosen))).passed

    return offending_nodes(names, passes)


class _Images:
    """Images in parts, with torch's logits.

    Args:
        parts: of images and labels, in their order.
        net: the network, on the CPU.
        ignore_index: label value of ignored pixels.
    """

    def __init__(self, parts: Callable[[], Iterable[ImagePart]], net: nn.Module, ignore_index: int) -> None:
        self.parts, self.ignore_index = parts, ignore_index
        self.ours = np.concatenate([run_torch(net, part.images) for part in parts()])
        self.labels = [label for part in parts() for label in part.labels or ()]
        self.input_hw: tuple[int, ...] = next(iter(parts())).images.shape[2:]

    def logits(self, run: Run) -> FloatArray:
        """Logits of all images."""
        return np.concatenate([run(part.images) for part in self.parts()])

    def report(self, run: Run) -> ParityReport:
        """Agreement of another form of the network with torch."""
        return half_report(self.ours, self.logits(run), self.input_hw, self.labels or None, self.ignore_index)


class _Gate:
    """The bundle's images, and more of the validation split where those are too few to decide."""

    def __init__(self, inputs: BundleInputs | CheckImages) -> None:
        self._net, self._ignore = cpu_copy(inputs.network.net), inputs.network.ignore_index
        own = ImagePart(inputs.images, inputs.labels)
        self._few = _Images(lambda: (own,), self._net, self._ignore)
        self._more = inputs.more_images
        self._wide: _Images | None = None

    @property
    def _largest(self) -> _Images:
        if self._wide is None and self._more is not None:
            more = self._more
            self._wide = _Images(lambda: more(MORE_IMAGES), self._net, self._ignore)
        return self._wide or self._few

    def decide(self, run: Run) -> ParityReport:
        """Report on the bundle's images; on more of them where these fail by mIoU alone."""
        report = self._few.report(run)
        return self._largest.report(run) if fails_by_miou_alone(report) else report

    def most_changed(self, run: Run) -> _Images:
        """A few of the images that decided: those with the most changed pixels."""
        if not fails_by_miou_alone(self._few.report(run)):
            return self._few
        source = self._largest
        changed = (source.ours.argmax(axis=1) != source.logits(run).argmax(axis=1)).mean(axis=(1, 2))
        chosen = sorted(np.argsort(-changed, kind="stable")[:_SEARCH_IMAGES].tolist())
        images = [
            image
            for index, image in enumerate(each for part in source.parts() for each in part.images)
            if index in chosen
        ]
        part = ImagePart(np.stack(images), [source.labels[index] for index in chosen])
        return _Images(lambda: (part,), self._net, self._ignore)
