"""Parity ladder of a bundle: torch, ONNX Runtime in FP32, the graph converted to FP16, in INT8, the engine on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exports.bundle.fp16 import Half, half_report
from exports.bundle.inputs import BundleInputs
from exports.bundle.int8 import Int8, int8_report
from exports.errors import ParityError
from exports.network_file import TrainedNetwork
from exports.onnx.export import cpu_copy
from exports.onnx.parity import (
    MIN_AGREEMENT,
    MIOU_TOLERANCE,
    REL_TOLERANCE,
    LabelArray,
    ParityReport,
    compare_logits,
    run_torch,
)
from exports.onnx.runtime import FloatArray

ENGINE = "engine"
"""Name of the step of an engine on a device."""
INT8_ENGINE = "engine int8"
"""Name of the step of the INT8 variant's engine on a device."""
_ENGINE = "the engine"
_NO_DEVICE = "not measured: no device"


@dataclass(frozen=True)
class EngineRun:
    """Images and what an engine computed for them on a device.

    Attributes:
        images: float32 (N, 3, height, width), normalised.
        labels: uint8 (h, w) each at any resolution.
        logits: float32, flat: those of the first images.
        exact: the runtime computes in float32, and the limits are those of ``model.onnx``; else those of FP16.
        facts: plain JSON on the device and the engine.
        int8: the engine is that of the INT8 variant, and the limits are those of INT8.
    """

    images: FloatArray
    labels: Sequence[LabelArray]
    logits: FloatArray
    exact: bool
    facts: Mapping[str, Any]
    int8: bool = False


def engine_step(network: TrainedNetwork, run: EngineRun) -> dict[str, Any]:
    """Compare an engine with torch; return the ladder's step as plain JSON.

    Raises:
        ValueError: the logits are those of another network.
    """
    net = network.net if network.quantized is None else network.quantized
    ours = run_torch(cpu_copy(net), run.images)
    if run.logits.size != ours.size:
        raise ValueError(f"torch gives {ours.size} logits, the engine {run.logits.size}: it is another network's")
    theirs, hw = run.logits.reshape(ours.shape), run.images.shape[2:]
    if run.int8:
        report = int8_report(ours, theirs, hw, run.labels, network.ignore_index, "the INT8 engine")
    elif run.exact and network.quantized is None:
        report = compare_logits(
            ours,
            theirs,
            hw,
            run.labels,
            network.ignore_index,
            tolerance=REL_TOLERANCE,
            min_agreement=MIN_AGREEMENT,
            miou_tolerance=MIOU_TOLERANCE,
            name=_ENGINE,
        )
    else:
        report = half_report(ours, theirs, hw, run.labels, network.ignore_index, _ENGINE)
    return {**_step(INT8_ENGINE if run.int8 else ENGINE, report), **run.facts}


def with_engine(steps: Sequence[Mapping[str, Any]], step: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the ladder with the step of an engine, in place of an earlier one of its device and of the one that tells there is none."""
    name, device = step["step"], step["device"]
    kept = [item for item in steps if item.get("step") != name or item.get("device", device) != device]
    return [*kept, dict(step)]


def kept_in_fp32(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ONNX nodes of a bundle that stay in float32 in FP16."""
    steps = [step for step in manifest.get("ladder", []) if step.get("step") == "onnx fp16"]
    return tuple(steps[0].get("kept_in_fp32", ())) if steps else ()


def engine_steps(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the steps of engines that ran on a device."""
    return [item for item in steps if item.get("step") in (ENGINE, INT8_ENGINE) and item.get("device")]


def ladder(
    exported: ParityReport,
    inputs: BundleInputs,
    half: Half | str | ParityError | None,
    int8: Int8 | str | None = None,
) -> list[dict[str, Any]]:
    """Steps of the ladder as plain JSON, each compared with torch.

    Args:
        exported: agreement of `model.onnx`.
        half: the FP16 step, the reason why it was not made, or that of its failure; None where the device has no FP16, or the network is
            in INT8.
        int8: the step of the INT8 variant, or the reason why it was not made; None where there is none.
    """
    name = "onnx int8" if inputs.network.quantized is not None else "onnx fp32"
    steps = [_step(name, exported)]
    if isinstance(half, str):
        steps.append({"step": "onnx fp16", "passed": None, "reason": half})
    elif isinstance(half, ParityError):
        steps.append({"step": "onnx fp16", "passed": False, "reason": str(half)})
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
