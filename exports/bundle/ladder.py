"""Parity ladder of a bundle: torch, ONNX Runtime in FP32, the graph converted to FP16, in INT8, the engine on the device."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from exports.bundle.inputs import BundleInputs
from exports.bundle.int8 import Int8
from exports.errors import ExportError
from exports.network_file import TrainedNetwork
from exports.onnx.export import cpu_copy
from exports.onnx.graph import node_name
from exports.onnx.half import convert_to_half, offending_nodes
from exports.onnx.parity import (
    MIN_AGREEMENT,
    MIOU_TOLERANCE,
    REL_TOLERANCE,
    LabelArray,
    ParityReport,
    compare_logits,
    run_torch,
)
from exports.onnx.runtime import FloatArray, OnnxSession
from exports.quantization.net import HalfNet

FP16_MIOU = 0.002
"""Largest difference of mIoU in FP16, 0.2 points."""
FP16_CHANCE = 0.995
"""Share of equal pixels from which on a larger difference is attributed to the few images."""
FP16_AGREEMENT = 0.98
"""Smallest share of equal pixels in FP16."""
_FP16_TOLERANCE = 0.1
ENGINE = "engine"
"""Name of the step of an engine on a device."""
_ENGINE = "the engine"
_NO_DEVICE = "not measured: no device"


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


def half_step(onnx_path: Path, inputs: BundleInputs) -> Half | str:
    """Convert an exported network to FP16 and check it on the bundle's images.

    Every weight and activation is rounded to float16, in torch: ONNX Runtime computes FP16 graphs in float32 on a CPU. Where the
    gates are broken, the offending nodes are found by bisection and kept in float32.

    Returns:
        The step, or the reason why torch cannot round the network: an operator that only ONNX Runtime knows.

    Raises:
        ExportError: no such choice of nodes meets the gates, or ONNX Runtime does not take the converted graph.
    """
    model = onnx.load(str(onnx_path))
    names = [node_name(node, index) for index, node in enumerate(model.graph.node) if node.op_type != "Constant"]
    ours = run_torch(cpu_copy(inputs.network.net), inputs.images)
    everything = set(names)
    try:
        HalfNet(model)
    except ExportError as error:
        return str(error)

    def parity(keep: Collection[str]) -> ParityReport:
        return _compared(ours, run_torch(HalfNet(model, keep).eval(), inputs.images), inputs)

    kept: list[str] = []
    report = parity(kept)
    if not report.passed:
        kept = offending_nodes(names, lambda chosen: parity(everything - set(chosen)).passed)
        if len(kept) == len(names):
            raise ExportError(
                f"in FP16 the network is not the one that was trained: {report.reason}. Choose another trial, train with "
                "device.precision fp16, or deploy it in FP32."
            )
        report = parity(kept)
    converted = convert_to_half(model, kept)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.onnx"
        path.write_bytes(converted.SerializeToString(deterministic=True))
        stored = _compared(ours, OnnxSession(path).run(inputs.images), inputs)
    if not stored.passed:
        raise ExportError(f"the graph converted to FP16 does not agree with torch: {stored.reason}. Please report it.")
    return Half(converted, report, tuple(kept))


@dataclass(frozen=True)
class EngineRun:
    """Images and what an engine computed for them on a device.

    Attributes:
        images: float32 (N, 3, height, width), normalised.
        labels: uint8 (h, w) each at any resolution.
        logits: float32, flat: those of the first images.
        exact: the runtime computes in float32, and the limits are those of ``model.onnx``; else those of FP16.
        facts: plain JSON on the device and the engine.
    """

    images: FloatArray
    labels: Sequence[LabelArray]
    logits: FloatArray
    exact: bool
    facts: Mapping[str, Any]


def engine_step(network: TrainedNetwork, run: EngineRun) -> dict[str, Any]:
    """Compare an engine with torch; return the ladder's step as plain JSON.

    Raises:
        ValueError: the logits are those of another network.
    """
    net = network.net if network.quantized is None else network.quantized
    ours = run_torch(cpu_copy(net), run.images)
    if run.logits.size != ours.size:
        raise ValueError(f"torch gives {ours.size} logits, the engine {run.logits.size}: it is another network's")
    exact = run.exact and network.quantized is None
    report = compare_logits(
        ours,
        run.logits.reshape(ours.shape),
        run.images.shape[2:],
        run.labels,
        network.ignore_index,
        tolerance=REL_TOLERANCE if exact else _FP16_TOLERANCE,
        min_agreement=MIN_AGREEMENT if exact else FP16_AGREEMENT,
        miou_tolerance=MIOU_TOLERANCE if exact else FP16_MIOU,
        chance=1.0 if exact else FP16_CHANCE,
        name=_ENGINE,
    )
    return {**_step(ENGINE, report), **run.facts}


def with_engine(steps: Sequence[Mapping[str, Any]], step: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the ladder with the step of an engine, in place of an earlier one of its device and of the one that tells there is none."""
    kept = [
        item for item in steps if item.get("step") != ENGINE or item.get("device", step["device"]) != step["device"]
    ]
    return [*kept, dict(step)]


def engine_steps(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the steps of engines that ran on a device."""
    return [item for item in steps if item.get("step") == ENGINE and item.get("device") is not None]


def _compared(ours: FloatArray, theirs: FloatArray, inputs: BundleInputs) -> ParityReport:
    return compare_logits(
        ours,
        theirs,
        inputs.images.shape[2:],
        inputs.labels,
        inputs.network.ignore_index,
        tolerance=_FP16_TOLERANCE,
        min_agreement=FP16_AGREEMENT,
        miou_tolerance=FP16_MIOU,
        chance=FP16_CHANCE,
        name="FP16",
    )


def ladder(
    exported: ParityReport, inputs: BundleInputs, half: Half | str | None, int8: Int8 | str | None = None
) -> list[dict[str, Any]]:
    """Steps of the ladder as plain JSON, each compared with torch.

    Args:
        exported: agreement of `model.onnx`.
        half: the FP16 step, or the reason why it was not made; None where the device has no FP16, or the network is in INT8.
        int8: the step of the INT8 variant, or the reason why it was not made; None where there is none.
    """
    name = "onnx int8" if inputs.network.quantized is not None else "onnx fp32"
    steps = [_step(name, exported)]
    if isinstance(half, str):
        steps.append({"step": "onnx fp16", "passed": None, "reason": half})
    elif half is not None:
        steps.append({**_step("onnx fp16", half.parity), "kept_in_fp32": list(half.kept)})
    if isinstance(int8, str):
        steps.append({"step": "onnx int8", "passed": None, "reason": int8})
    elif int8 is not None:
        steps.append({**_step("onnx int8", int8.parity), "calibration_images": int8.images})
    return [*steps, {"step": ENGINE, "passed": None, "reason": _NO_DEVICE}]


def _step(name: str, parity: ParityReport) -> dict[str, Any]:
    values = parity.to_dict()
    torch, other = values.pop("miou_torch"), values.pop("miou_onnx")
    delta = None if torch is None or other is None else other - torch
    return {"step": name, **values, "miou": other, "miou_delta": delta}
